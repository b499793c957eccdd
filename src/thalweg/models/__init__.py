"""Models: their records, their layers, and hooks at these."""
