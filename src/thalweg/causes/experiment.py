"""The experiment from its settings to its tables and page."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.causes.attribution import manipulations, mediation, mixed_effects, shares
from thalweg.causes.design import FULL, INTERVENTIONS, QUICK, Size, plans
from thalweg.causes.hypotheses import analysed, judge
from thalweg.causes.measuring import measure_network
from thalweg.causes.page import write_page
from thalweg.causes.plan import NetworkPlan
from thalweg.compute import engines as engine
from thalweg.errors import ThalwegError, readable, reason
from thalweg.files import whole
from thalweg.files.identity import digest
from thalweg.progress import Progress, Silent, Stages
from thalweg.runs.directory import SETTINGS, RunDirectory, settings_of_kind

FORMAT = 1  # of the directory; also raised when a network's numbers change
PAGE = "causes.html"
ATTRIBUTION_DRAWS = 300
NOT_OF_THE_TABLE = ("steps",)


@dataclass(frozen=True, eq=False)
class Causes:
    """What the experiment found.

    Attributes:
        path: The directory.
        hypotheses: The six lines: `causes.parquet`.
        networks: A row for each network: `networks.parquet`.
    """

    path: Path
    hypotheses: pl.DataFrame
    networks: pl.DataFrame

    @property
    def page(self) -> Path:
        """The page."""
        return self.path / PAGE


def run_causes(
    *,
    quick: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    workers: int | None = None,
    engine_name: str = "local",
    progress: Progress | None = None,
) -> Causes:
    """Train and measure the networks of the experiment, and judge the six hypotheses.

    Interrupted, it goes on where it stopped when it is called again.

    Args:
        quick: Fewer seeds and steps: a look in minutes.
        seed: Of everything that is random.
        out: The directory; by default `runs/causes`, or `runs/causes-quick`.
        workers: Tasks at once; by default as many as cores.
        engine_name: `local` or `ray`.
        progress: Where it says what it does.

    Raises:
        ThalwegError: a mistake that the user can mend, or networks that failed; the others are kept.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ThalwegError(f"seed is {seed!r} (--seed); a whole number from 0 up was expected")
    if workers is not None and workers < 1:
        raise ThalwegError(f"workers is {workers!r} (--workers); at least 1 was expected")
    where = engine.EngineConfig(engine=engine_name, workers=workers)
    engine.ready(where)
    path = Path(out) if out else Path("runs") / ("causes-quick" if quick else "causes")
    return run_sized(QUICK if quick else FULL, path, seed=seed, where=where, progress=progress)


def run_sized(
    size: Size, path: Path, *, seed: int, where: engine.EngineConfig, progress: Progress | None = None
) -> Causes:
    """`run_causes` of any size."""
    stages = Stages(progress or Silent())
    with RunDirectory(path).locked():
        _settle(path, {"format": FORMAT, "kind": "causes", "seed": seed, **asdict(size)})
        planned = plans(size, seed)
        _measure_all(planned, path, seed, where, stages)
        networks, units = _tables(planned, path)
        _write({"networks": networks, "units": units}, path)  # before a cell may turn out to be missing
        with stages("causes", 1) as advance:
            tables = _analyse(networks, units, size, seed)
            _write(tables, path)
            write_page({"networks": networks, **tables}, path / PAGE)
            advance()
    return Causes(path, tables["causes"], networks)


def _settle(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings, or check that they are those of the run that is continued.

    Raises:
        ThalwegError: they are others, or the directory holds a run of another kind.
    """
    if before := settings_of_kind(path, settings["kind"]):
        others = [
            f"{name} was {before.get(name)!r}, now {value!r}"
            for name, value in settings.items()
            if before.get(name) != value
        ]
        if others:
            raise ThalwegError(
                f"{readable(path)}: this run was made with other settings ({'; '.join(others[:3])}); give the "
                "same ones, or choose another --out"
            )
    whole.write_json(path / SETTINGS, dict(settings))


def _part(path: Path, plan: NetworkPlan, seed: int) -> Path:
    """The file of a network's row; its units lie beside it."""
    return path / "parts" / f"{digest(FORMAT, plan, seed)}.json"


def _measure_all(planned: list[NetworkPlan], path: Path, seed: int, where: engine.EngineConfig, stages: Stages) -> None:
    """Measure the networks that have no rows yet.

    Raises:
        ThalwegError: some failed.
    """
    todo = [plan for plan in planned if not _is_done(_part(path, plan, seed))]
    failures = []
    with stages("networks", len(todo)) as advance:
        for index, failure in engine.run(partial(_measure_into, path.resolve(), seed), todo, where):
            if failure:
                failures.append(f"{todo[index].name}: {failure}")
            advance()
    if failures:
        raise ThalwegError(
            f"{len(failures)} of {len(planned)} networks failed; the others are done and kept. "
            + "\n".join(sorted(failures)[:5])
        )


def _is_done(part: Path) -> bool:
    """Whether a network's rows are there and can be read."""
    try:
        return bool(whole.read_json(part)) and len(whole.read_frame(part.with_suffix(".parquet"))) > 0
    except ThalwegError:
        return False


def _measure_into(path: Path, seed: int, plan: NetworkPlan) -> str:
    """Measure one network and keep its rows; returns why it failed, or nothing."""
    try:
        row, units = measure_network(plan, task_seed=seed)
    except Exception as wrong:
        return str(wrong) if isinstance(wrong, ThalwegError) else reason(wrong)
    part = _part(path, plan, seed)
    whole.write_frame(part.with_suffix(".parquet"), units)
    whole.write_json(part, {name: None if value != value else value for name, value in row.items()})
    return ""


def _tables(planned: list[NetworkPlan], path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables of networks and of units, in the order of the plan."""
    seed = json.loads((path / SETTINGS).read_text(encoding="utf-8"))["seed"]
    rows: list[dict[str, Any]] = []
    units: list[pl.DataFrame] = []
    for number, plan in enumerate(planned):
        part = _part(path, plan, seed)
        values = {name: math.nan if value is None else value for name, value in whole.read_json(part).items()}
        about = {name: value for name, value in asdict(plan).items() if name not in NOT_OF_THE_TABLE}
        moves = INTERVENTIONS[plan.intervention].moves if plan.intervention in INTERVENTIONS else ""
        rows.append({"network": number, "cell": plan.cell, **about, "moves": moves, **values})
        mine = whole.read_frame(part.with_suffix(".parquet"))
        units.append(mine.select(pl.lit(number).alias("network"), pl.all()))
    return pl.DataFrame(rows, infer_schema_length=None), pl.concat(units)


def _write(tables: Mapping[str, pl.DataFrame], path: Path) -> None:
    for name, table in tables.items():
        whole.write_frame(path / f"{name}.parquet", table)


def _analyse(networks: pl.DataFrame, units: pl.DataFrame, size: Size, seed: int) -> dict[str, pl.DataFrame]:
    """What the tables of networks and units say: tables by name."""
    frame = analysed(networks)
    in_design = frame.filter(arm="factorial")["network"].implode()
    return {
        "causes": judge(networks, draws=size.draws, seed=seed),
        "effects": mixed_effects(frame, units.filter(pl.col("network").is_in(in_design))),
        "mediation": mediation(frame, draws=min(size.draws, ATTRIBUTION_DRAWS), seed=seed),
        "shares": shares(frame, draws=min(size.draws, ATTRIBUTION_DRAWS), seed=seed),
        "interventions": manipulations(frame),
    }
