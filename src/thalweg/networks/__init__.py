"""Architectures that the ladders train."""
