"""From a checkpoint to an artifact, and into the repository."""
