"""The tasks that edit facts and goals in the models of ladders that have any, and how crossing goes with sharing."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from thalweg.compute.devices import placed
from thalweg.edits.columns import EDITS
from thalweg.edits.crossing import ROME, TRANSFER, edit_network
from thalweg.edits.goals import redirect
from thalweg.factors.relation import Relation, partial_relation, relation
from thalweg.files import whole
from thalweg.files.identity import digest, identity
from thalweg.pipeline.job import Model, failure_of
from thalweg.stimuli.windows import Windows

SHARING = ("retrieval", "cka", "overlap", "probe", "patch", "carried")  # what transfer is held against
HELD = ", strength held"
SHUFFLED = "shuffled"  # the control of redirecting: differences of prompts that were dealt out at random
VERSION = 2  # of how edits are measured; raised when its numbers change


def edit_models(models: Sequence[Model]) -> str:
    """Edit facts in a model and in its twins that are trained, and redirect them and the untrained twin."""
    return failure_of(models, map(_edits, models))


def edit_inputs(model: Model) -> str:
    """The hash of what its rows are made from."""
    return digest(model.train_inputs(), identity(model.ladder.edits), identity(model.ladder.goals), VERSION)


def edits_file(model: Model) -> str:
    """The name of the file of its rows in the run directory."""
    return f"parts/{model.name}-edits.parquet"


def _edits(model: Model) -> None:
    rows = pl.concat(list(_rows(model))).select(*EDITS).cast(pl.Schema(EDITS))
    whole.write_frame(model.run / edits_file(model), rows)
    model.run.finish(f"edits-{model.name}", edit_inputs(model), [edits_file(model)])


def _rows(model: Model) -> Iterator[pl.DataFrame]:
    """The rows of the network, of each twin that is trained, and of the untrained one, which knows no fact but can be
    redirected; by control.
    """
    facts = model.ladder.edits(model.settings.seed) if model.ladder.edits else ()
    goals = model.ladder.goals(model.settings.seed) if model.ladder.goals else ()
    for control in model.controls:
        is_trained = control == "trained" or control in model.ladder.twins
        if not (is_trained or (control == "untrained" and goals)):
            continue
        network = placed(model.network(control), model.settings.resolved_device).eval()
        if facts and is_trained:
            text = model.splits.train
            assert isinstance(text, Windows)
            yield _keyed(model, control, edit_network(network, facts, text, seed=model.own_seed).summary)
        if goals:
            made = redirect(network, goals, seed=model.own_seed, every=not is_trained)
            yield _keyed(model, control, made.summary)
            if control == "trained":
                yield _keyed(model, SHUFFLED, made.shuffled)


def _keyed(model: Model, control: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of a network with the columns that say which one it is."""
    key = {**model.key, "control": control}
    return rows.with_columns(pl.lit(key[name]).alias(name) for name in ("ladder", "rung", "seed", "control"))


def edit_relations(models: pl.DataFrame, concepts: pl.DataFrame, edits: pl.DataFrame) -> pl.DataFrame:
    """Rows without a rung: how the share of edits that cross over goes with strength and with each measure of sharing
    over the trained models of a ladder, and the latter with strength held; Spearman's correlations.
    """
    key = ["ladder", "rung", "seed"]
    strength = models.filter(control="trained").select(*key, pl.col("bits").alias("strength")).unique(key)
    crossed = edits.filter(control="trained", method=ROME, measure=TRANSFER).select(
        *key, pl.col("value").alias(TRANSFER)
    )
    sharing = concepts.filter(control="trained", layer="").filter(pl.col("rung") != "").unique([*key, "measure"])
    wide = sharing.pivot("measure", index=key, values="value")
    joined = crossed.join(strength, on=key).join(wide, on=key, how="left").sort(key)
    rows = []
    for (ladder,), group in joined.group_by("ladder", maintain_order=True):
        rungs = group["rung"].to_list()
        numbers = {name: _numbers(group, name) for name in (TRANSFER, "strength", *SHARING) if name in group.columns}
        for name in numbers:
            if name != TRANSFER:
                rows.append(_row(ladder, name, relation(numbers[name], numbers[TRANSFER], rungs)))
            if name in SHARING:
                held = partial_relation(numbers[name], numbers[TRANSFER], numbers["strength"], rungs)
                rows.append(_row(ladder, f"{name}{HELD}", held))
    return pl.DataFrame(rows, schema=EDITS)


def _numbers(rows: pl.DataFrame, name: str) -> list[float]:
    return rows[name].cast(pl.Float64).fill_null(math.nan).to_list()


def _row(ladder: object, name: str, found: Relation) -> dict[str, Any]:
    key = {"ladder": ladder, "rung": "", "control": "trained", "layer": "", "method": ROME}
    numbers = {"value": found.rho, "low": found.low, "high": found.high, "n": found.n_models, "note": found.note}
    return {**key, "measure": f"{TRANSFER} ~ {name}", **numbers}
