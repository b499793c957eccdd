"""Small real things that tests share."""

from support.lazily import checked as checked  # pyproject.toml names it, for jaxtyping
