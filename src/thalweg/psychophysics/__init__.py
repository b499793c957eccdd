"""What people's answers to single trials say: exclusion, sensitivity, reliability, agreement, curve and verdict."""
