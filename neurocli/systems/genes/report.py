"""Pictures of the genes room."""
