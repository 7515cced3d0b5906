"""The stages of a run: what each trains, freezes and is scored by."""
