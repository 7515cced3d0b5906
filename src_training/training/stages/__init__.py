"""The stages of a run: their modules, losses and scores."""
