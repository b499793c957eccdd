"""Measurements of the instrument itself: each module writes a page of docs/."""
