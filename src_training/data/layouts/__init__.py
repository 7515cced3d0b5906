"""Layouts of folders with images and masks, and discovery of the files of a folder."""
