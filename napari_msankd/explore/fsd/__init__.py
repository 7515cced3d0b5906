"""The FSD page: Fréchet Semantic Distances between domains."""
