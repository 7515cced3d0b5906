"""Semantic vectors, projected to a plane."""
