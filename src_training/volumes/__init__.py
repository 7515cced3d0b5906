"""Volumes: read lazily on one grid, with what is known of their spacing."""
