"""The Vectors page: semantic vectors, projected to a plane."""
