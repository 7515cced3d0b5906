"""The whole recipe, to be read and changed."""
