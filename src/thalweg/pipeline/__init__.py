"""From ladders to a run directory: the steps of a survey."""
