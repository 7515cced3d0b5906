"""The engine: train, distil, segment and evaluate, with no window and no screen."""
