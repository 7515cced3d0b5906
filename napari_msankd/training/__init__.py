"""The Train & distil widget: prepare runs, watch them, and use their results."""
