"""Files: written whole, named one to one, checked for damage, and known by their content."""
