"""A run: its directory, its events, and who watches it."""
