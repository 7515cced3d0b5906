"""Bytes to arrays and back: images, volumes, and files written atomically."""
