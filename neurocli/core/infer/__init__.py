"""Applying a model to volumes that are larger than what it sees at once."""
