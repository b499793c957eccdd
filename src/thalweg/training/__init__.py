"""How the ladders' models are trained."""
