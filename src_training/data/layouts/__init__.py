"""How folders of images and masks are laid out, and what of a folder is used."""
