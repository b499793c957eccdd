"""The run directory: its files, their columns, and how they are read."""
