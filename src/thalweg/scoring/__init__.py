"""From recordings to scores of units, and from these to scores of models."""
