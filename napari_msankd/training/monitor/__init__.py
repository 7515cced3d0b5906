"""Watching a run: its process, stages, curves, preview and results."""
