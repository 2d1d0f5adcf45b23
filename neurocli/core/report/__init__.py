"""Run folders in, one self-contained page out."""
