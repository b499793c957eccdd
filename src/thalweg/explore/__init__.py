"""A page for every unit of a run, and an index to find it by: a static site, or served on this machine."""
