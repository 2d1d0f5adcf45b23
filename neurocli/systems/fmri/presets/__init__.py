"""Presets of the fMRI room."""
