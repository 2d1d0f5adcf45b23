"""Encoders of brain latents and of gene vectors."""
