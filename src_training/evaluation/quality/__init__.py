"""Quality without masks: expected Dice, its fit, and what is sorted by it."""
