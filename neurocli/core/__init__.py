"""The ground floor: what two or more rooms need, knowing no room."""
