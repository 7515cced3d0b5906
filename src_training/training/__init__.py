"""Training: stages, the training loop, checkpoints, and distributed training."""
