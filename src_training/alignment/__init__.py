"""Networks as semantic vectors: P-SAE, TAN, SAN and the training that aligns them."""
