"""CIFAR-10: its files, its convnets, and the ladder."""

from thalweg.ladders.cifar.ladder import LADDER, ladder

__all__ = ["LADDER", "ladder"]
