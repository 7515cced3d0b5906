"""Images on disk to what networks learn from: reading, domains, preparation, views."""
