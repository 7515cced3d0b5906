"""Reading and writing images, volumes, masks and tables; atomic writing and locks."""
