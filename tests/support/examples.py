"""The examples of docstrings, run as they are printed."""

import doctest


def run_example(thing: object) -> None:
    """Run the example in the docstring of a function or class; the test fails where it shows something else."""
    (example,) = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__, globs={})
    assert example.examples, f"{thing.__name__} has no example"
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example).failed == 0
