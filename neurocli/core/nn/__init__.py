"""Network parts that any room may use."""
