"""Why: an experiment on tasks whose features are known, by networks that differ in one thing at a time."""
