"""Semantic vectors of bottlenecks (P-SAE, TAN, SAN), and graphs between the vectors."""
