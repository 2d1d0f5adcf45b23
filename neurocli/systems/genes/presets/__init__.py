"""Presets of the genes room."""
