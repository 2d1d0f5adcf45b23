"""The encoders of the calcium room."""
