"""Pure functions over participants: who goes where, and whether that is fair."""
