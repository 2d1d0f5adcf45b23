"""Several runs of one question: which they are, one after another, their tables and comparison."""
