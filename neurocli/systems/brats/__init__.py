"""Tumour segmentation in multi-contrast MRI of the brain."""
