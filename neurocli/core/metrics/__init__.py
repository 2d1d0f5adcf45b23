"""Metrics as pure functions over arrays, with intervals by bootstrap."""
