"""Segment a folder, and review the least trustworthy results first."""
