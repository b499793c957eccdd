"""The pages of docs/factors: one for each factor, made from its declaration and its docstring.

python -m thalweg.factors.pages docs/factors
"""

import math
import sys
from pathlib import Path

from thalweg.factors.base import FACTORS, INPUTS, Factor
from thalweg.measures.base import first_sentence
from thalweg.measures.pages import page_of, wrap


def page(factor: Factor) -> str:
    """The page of one factor, as Markdown: what it asks, formula, edge cases, how it can mislead, declaration."""
    low, high = ("any" if math.isinf(end) else f"{end:g}" for end in factor.range)
    declaration = {
        "version": factor.version,
        "unit": factor.unit,
        "range": f"{low} to {high}",
        "higher is": factor.higher_is,
        "computed": _when(factor),
        "asks for": ", ".join(f"`{name}`" for name in factor.needs),
        "source": factor.cite,
    }
    return page_of(factor.function, declaration)


def _when(factor: Factor) -> str:
    """When a survey computes it."""
    if factor.on_request:
        return f"on request: `--factors {factor.on_request}`"
    return f"in surveys with {factor.only_with}" if factor.only_with else "always"


def write(folder: Path) -> None:
    """Write every page, and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    for factor in FACTORS.values():
        (folder / f"{factor.name}.md").write_text(page(factor), encoding="utf-8")
    (folder / "README.md").write_text(_index(), encoding="utf-8")


def _index() -> str:
    """The index, with how a factor is added and what it can ask for."""
    listed = "\n".join(
        wrap(f"- [{name}]({name}.md): {first_sentence(each.function)}", "  ") for name, each in FACTORS.items()
    )
    inputs = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in INPUTS.items())
    return INDEX.format(listed=listed, inputs=inputs)


INDEX = """# Factors

Made from the code by `python -m thalweg.factors.pages docs/factors`.

A factor is a number of a whole model beside its strength and its score. The report shows how each goes with the
headlines over the models of a ladder: Spearman's correlation, with [an interval](../causes.md#intervals-over-few-rungs)
in which rungs count more than their seeds. That is an association, not a cause.

{listed}

## A factor of your own

A new factor is one file in `src/thalweg/factors/`: a function with `@factor`, imported in `__init__.py`. It returns an
`Estimate` and names as parameters what it needs:

| input | what it is |
|---|---|
{inputs}

An input that no factor names is not made. A factor that takes long is declared with `on_request`, the name by which
`--factors` asks for it. A factor that fails is missing, with the reason as its note, and takes
nothing else down; the report counts such models. Raise its version when its values change. The column of
`models.parquet` has the factor's name.
"""


if __name__ == "__main__":
    write(Path(sys.argv[1]))
