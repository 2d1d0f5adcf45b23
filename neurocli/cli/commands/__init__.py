"""One file per verb; a command reads options, calls one function and shows the result."""
