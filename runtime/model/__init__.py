"""What a model file promises (spec) and which file a name means (registry)."""
