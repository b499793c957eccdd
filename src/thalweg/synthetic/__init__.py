"""Synthetic references: pictures made to drive a unit, in place of the natural ones that drive it most and least."""
