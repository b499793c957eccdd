"""How strong a model is, on every axis."""
