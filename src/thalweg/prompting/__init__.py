"""Language models as observers: what they are asked, how they are reached, and how their replies are read and scored."""
