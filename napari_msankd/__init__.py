"""The face: opened layers become arrays, the engine's answers become layers.

Importing it is light: the engine, and torch with it, is loaded by the workers
that need it.
"""
