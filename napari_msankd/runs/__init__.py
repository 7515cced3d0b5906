"""A run as it is seen from the window: its process, its curves, what it came to."""
