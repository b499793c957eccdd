"""How much of what a model can do is carried by the units that can be read: total interpretable capability."""
