"""Train & distil: prepare a run, watch it, use what it made."""
