"""Fréchet Semantic Distances between domains."""
