"""Presets of the calcium room."""
