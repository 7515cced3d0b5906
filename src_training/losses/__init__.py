"""Loss terms that several stages and methods share."""
