"""Quality of labels without masks: fitting expected Dice, tables, and triage."""
