"""The temperature of `mis`, fitted to people.

The machine interpretability score takes the probability that people are right about a pair of queries as
sigmoid(margin / T), with margin = d(high) - d(low) the difference of an observer's evidence. T was published for one
observer, 0.16; here it is fitted to the people who answered, for each observer that compares whole stimuli.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from scipy.special import expit
from torch import Tensor

from thalweg.errors import ThalwegError
from thalweg.files.whole import read_tensors
from thalweg.measures.base import Z
from thalweg.observers import base
from thalweg.observers.embedding import build_view
from thalweg.pipeline.embed import embed_pool
from thalweg.pipeline.settings import Settings
from thalweg.progress import Silent, Stages
from thalweg.psychophysics.tables import MODEL, unit_names
from thalweg.runs.run import Run
from thalweg.stimuli.base import Stimuli
from thalweg.trials.items import Trial

STEPS, SMALL = 100, 1e-10


@dataclass(frozen=True)
class Temperature:
    """The fitted temperature of one observer, with its 95 % interval; no upper end where people may not follow the
    observer at all, no value where they do not. `published` is what `mis` takes.
    """

    observer: str
    value: float
    low: float
    high: float
    n: int
    note: str = ""


def fit_temperature(
    observer: str, margin: Float[np.ndarray, " answer"], right: Bool[np.ndarray, " answer"], unit: pl.Series
) -> Temperature:
    """Fit T of P(right) = sigmoid(margin / T) by maximum likelihood.

    Args:
        observer: Whose margins these are.
        margin: The evidence for the right query minus that for the wrong one, of each answer's trial.
        right: Whether the answer is right.
        unit: The unit that it is about: answers about one unit are not independent.

    Source:
        Zimmermann, Klindt & Brendel 2024; the errors are clustered by unit (Liang & Zeger 1986).
    """
    slope, curvature = 0.0, 0.0
    for _ in range(STEPS):
        p = expit(slope * margin)
        curvature = float((p * (1 - p) * margin**2).sum())
        step = float(((right - p) * margin).sum()) / curvature if curvature > 0 else 0.0
        slope += float(np.clip(step, -5, 5))
        if abs(step) < SMALL:
            break
    scores = pl.DataFrame({"unit": unit, "score": (right - expit(slope * margin)) * margin})
    by_unit = scores.group_by("unit", maintain_order=True).agg(pl.col("score").sum())["score"].to_numpy()
    if curvature <= 0 or slope <= 0 or len(by_unit) < 2:
        note = "people do not follow this observer" if slope <= 0 else "there are too few units"
        nan = float("nan")
        return Temperature(observer, nan, nan, nan, len(margin), note)
    groups = len(by_unit)
    se = float(np.sqrt((by_unit**2).sum() * groups / (groups - 1))) / curvature
    low, high = slope - Z * se, slope + Z * se
    return Temperature(observer, 1 / slope, 1 / high, 1 / low if low > 0 else float("nan"), len(margin))


def temperatures(run: Run, main: pl.DataFrame, asked: Mapping[str, Trial]) -> Iterator[Temperature]:
    """The temperature of each observer of a run that compares whole stimuli, fitted to people's responses.

    Args:
        run: The run.
        main: Responses to main trials.
        asked: These trials by their ids.

    Raises:
        ThalwegError: the stimuli cannot be made again.
    """
    for (ladder,), rows in main.group_by("ladder", maintain_order=True):
        trials = {name: asked[name] for name in rows["trial"].unique(maintain_order=True)}
        names = [each["name"] for each in run.record["ladders"][ladder]["observers"]]
        for name, embedding in _embeddings(names, run.stimuli(str(ladder))):
            margin = rows["trial"].replace_strict(margins(embedding, trials), return_dtype=pl.Float64).to_numpy()
            yield fit_temperature(name, margin, rows["correct"].to_numpy(), unit_names(rows))


def _embeddings(names: Sequence[str], pool: Stimuli) -> Iterator[tuple[str, Tensor]]:
    """What each observer that compares whole stimuli compares them by; observers of the user's own are not at hand. The
    survey left most of it in the cache.
    """
    whole = [base.find(name) for name in names if name in base.OBSERVERS and base.find(name).whole]
    sources = {part: base.find(part) for observer in whole for part in observer.parts or (observer.name,)}
    files = embed_pool(pool, tuple(sources.values()), Settings(workers=1), Stages(Silent()))
    seen = {name: read_tensors(file) for name, file in files.items()}
    for observer in whole:
        embedding = build_view(observer, seen, pool).embedding
        assert embedding is not None
        yield observer.name, embedding


def margins(embedding: Float[Tensor, "stimulus feature"], trials: Mapping[str, Trial]) -> dict[str, float]:
    """The evidence for the right query of each trial minus that for the wrong one."""
    found = {}
    for name, trial in trials.items():
        high, low = (embedding[list(ids)].mean(0) for ids in (trial.high_references, trial.low_references))
        evidence = embedding[list(trial.queries)] @ (high - low)
        found[name] = float(evidence[trial.correct] - evidence[1 - trial.correct])
    return found


def trials_of_study(run: Run, main: pl.DataFrame, *, per_unit: int, matched: bool) -> dict[str, Trial]:
    """The trials that were asked, derived from the run again, by their ids.

    Raises:
        ThalwegError: the run has not all of them: it is another run, or was made again since.
    """
    found: dict[str, Trial] = {}
    for (ladder, rung, seed, control), rows in main.group_by(MODEL, maintain_order=True):
        derived = run.trials(
            str(ladder),
            str(rung),
            seed=int(str(seed)),
            control=str(control),
            units=sorted(rows["unit"].unique()),
            layer=sorted(rows["layer"].unique()),
            per_unit=per_unit,
            matched=matched,
        )
        wanted = set(rows["trial"])
        found |= {trial.id: trial for trial in derived if trial.id in wanted}
    lost = sorted(set(main["trial"]) - set(found))
    if lost:
        raise ThalwegError(
            f"{len(lost)} of the {main['trial'].n_unique()} trials that were asked are not of this run, as trial "
            f"{lost[0]!r}; give the run that the study was made from with --run (one that was made again with other "
            "stimuli or models is another)"
        )
    return found
