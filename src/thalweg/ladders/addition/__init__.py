"""Addition modulo a prime: its pairs, networks, training, truth by Fourier waves, and the two ladders."""

from thalweg.ladders.addition.ladder import LADDER, TRAINING, ladder, training_ladder

__all__ = ["LADDER", "TRAINING", "ladder", "training_ladder"]
