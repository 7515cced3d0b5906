"""Contrastive graphs of the views of a sample."""
