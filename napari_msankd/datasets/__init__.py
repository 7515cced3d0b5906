"""Domains as a person chooses them: folders and opened layers."""
