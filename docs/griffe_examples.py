"""What mkdocstrings reads docstrings through: `Example:` is the section that it calls `Examples:`."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Gives each example its place as a section."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section in the object's docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
