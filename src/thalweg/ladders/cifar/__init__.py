"""CIFAR-10: its files, its convnets, and the ladders."""

from thalweg.ladders.cifar.ladder import LADDER, STRONG_LADDER, ladder

__all__ = ["LADDER", "STRONG_LADDER", "ladder"]
