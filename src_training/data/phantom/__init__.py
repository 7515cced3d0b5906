"""Synthetic fundus photographs of three scanners."""
