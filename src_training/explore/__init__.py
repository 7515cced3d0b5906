"""Analysis of domains by semantic vectors, graphs and feature maps."""
