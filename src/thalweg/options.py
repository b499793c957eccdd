"""Options of a command from the fields of a record of settings."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any

import typer


def as_options(
    record: type[Any], left_out: Collection[str] = (), not_shown: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of a record, instead of its `**settings`.

    Args:
        record: A dataclass; each field's metadata has a `help`.
        left_out: Fields that get no option.
        not_shown: Fields whose default the help does not show.
    """

    def given(command: Callable[..., None]) -> Callable[..., None]:
        parameters = inspect.signature(command).parameters.values()
        options = [_option(setting, not_shown) for setting in fields(record) if setting.name not in left_out]
        named = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
        # pyrefly: ignore[missing-attribute]  # any function may have it: PEP 362
        command.__signature__ = inspect.Signature([*named, *options])
        return command

    return given


def _option(setting: Field[Any], not_shown: Collection[str]) -> inspect.Parameter:
    """A setting as a parameter of a command."""
    usual = setting.default if setting.default_factory is MISSING else setting.default_factory()
    repeated = isinstance(usual, tuple)
    kind: Any = list[str] if repeated else setting.type
    default = list(usual) if isinstance(usual, tuple) else usual
    shown = default not in (None, [], "") and setting.name not in not_shown
    flag = setting.name.replace("_", "-")
    flags = f"--{flag}/--no-{flag}" if setting.type == bool | None else f"--{flag}"
    option = typer.Option(flags, help=setting.metadata["help"], show_default=shown)
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )
