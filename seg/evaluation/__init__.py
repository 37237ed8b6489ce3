"""From a model and a split to a score."""
