"""The napari plugin: widgets, readers, writers and sample data over the engine `src_training`.

Importing it is fast: workers import the engine, and torch with it, when they need it.
"""
