"""The report: a page and figures made from a finished run, which open from files, with no network."""
