"""Bottlenecks as semantic vectors: P-SAE, TAN, SAN, and the graphs between vectors."""
