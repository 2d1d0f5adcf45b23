"""Readers, writers and pure functions over files: the only code that opens a user's file."""
