"""Segment a folder, and open the results that need a person first."""
