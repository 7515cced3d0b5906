"""Explore: why a student works on one scanner and not on another."""
