"""Presets of the tumour room."""
