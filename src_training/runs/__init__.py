"""Runs: their directories, stages, events and results."""
