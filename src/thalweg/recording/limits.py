"""How many random directions a layer is given; apart from what needs PyTorch, for the command line shows them."""

DIRECTIONS = 256  # of a layer, a sample of its rotation: their mean is then within about .005 of the whole rotation's
LEAST_DIRECTIONS = 20  # fewer have no bar that at most 5 % of them and of a unit like them reach
