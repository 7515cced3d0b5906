"""Feature maps over the image."""
