"""Decoders of image files."""
