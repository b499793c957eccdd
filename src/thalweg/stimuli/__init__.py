"""Stimuli: what models are given and observers are shown, and how they are read from files."""
