"""Where a survey may also be followed: TensorBoard and Weights & Biases."""
