"""Edits of facts: weights changed so that a model answers one thing anew, and what else that changes."""
