"""Scores with synthetic references: the same queries, the same observer, and an answer that is known."""
