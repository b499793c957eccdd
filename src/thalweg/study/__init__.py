"""A study with people: the trials of a run, asked in the browser, with a database of the responses."""
