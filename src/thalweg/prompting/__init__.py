"""Language models as observers: what they are asked, how they are reached, how their replies are read."""
