"""Evaluation: metrics, calibration, and the expected Dice of images without masks."""
