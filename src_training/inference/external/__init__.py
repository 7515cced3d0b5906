"""Teachers of which the outputs alone are used: models from elsewhere, and ensembles."""
