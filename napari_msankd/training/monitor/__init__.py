"""Parts of the Runs page: process, stages, curves, preview and results of a run."""
