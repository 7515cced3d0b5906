"""Segment: opened layers become labels."""
