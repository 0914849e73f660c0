"""A training run on disk: configuration, checkpoints, pictures."""
