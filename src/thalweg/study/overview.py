"""What the experimenter sees while a study runs: who came, where they are, how attentive, how fast.

No score of a main trial is shown: whoever can stop a study should not see which way it goes.
"""

from collections import Counter
from statistics import quantiles
from typing import Any

import sqlalchemy as sa

from thalweg.study.design import Study
from thalweg.study.export import LEFT_AFTER
from thalweg.study.store import FINISHED, LEFT, RETURNED, STARTED, Store, participants, responses

MINUTES = 30  # of the latest responses
P, R = participants.c, responses.c
Counts = dict[str, int]


def overview(study: Study, store: Store, now: float) -> dict[str, Any]:
    """The numbers of the experimenter's page."""
    with store.reading() as connection:
        gone = (P.status == STARTED) & (P.seen_at < now - LEFT_AFTER)
        status = sa.case((gone, LEFT), else_=P.status).label("status")
        rows = connection.execute(sa.select(status, P.phase, sa.func.count()).group_by(status, P.phase)).all()
        by_trial = sa.select(R.trial, sa.func.count()).where(R.kind == "main").group_by(R.trial)
        counts = {trial: int(count) for trial, count in connection.execute(by_trial)}
        return {
            "name": study.name,
            "state": store.state(),
            "planned": study.design.participants,
            "people": _people(rows),
            "catch": _catch(study, connection),
            "attempts": _attempts(connection),
            "units": _units(study, counts),
            "seconds": _seconds(connection, sum(counts.values())),
            "minutes": _minutes(connection),
            "latest": _latest(connection, now),
        }


def _people(rows: Any) -> dict[str, Any]:
    """How many there are of each status, and the phases in which those left who did not finish."""
    status: Counter[str] = Counter(dict.fromkeys((STARTED, FINISHED, LEFT, RETURNED), 0))
    left_in: Counter[str] = Counter()
    for name, phase, count in rows:
        status[name] += count
        if name == LEFT:
            left_in[phase] += count
    everyone = sum(status.values())
    dropped = status[LEFT] + status[RETURNED]
    return {**status, "left_in": dict(left_in), "dropout": dropped / everyone if everyone else None}


def _catch(study: Study, connection: sa.Connection) -> dict[str, Any]:
    """The share of catch trials that are right, and how many of those who finished are below the rule."""
    right = sa.func.avg(sa.case((R.correct, 1.0), else_=0.0))
    query = sa.select(right, sa.func.count()).where(R.kind == "catch").group_by(R.participant)
    shares = [(float(share), int(count)) for share, count in connection.execute(query)]
    n = sum(count for _, count in shares)
    return {
        "n": n,
        "right": sum(share * count for share, count in shares) / n if n else None,
        "participants": len(shares),
        "below": sum(share < study.rules.catch_accuracy for share, _ in shares),
        "rule": study.rules.catch_accuracy,
    }


def _attempts(connection: sa.Connection) -> Counts:
    """How many participants took so many attempts at the practice."""
    query = sa.select(P.attempt, sa.func.count()).where(P.instructed_at.is_not(None)).group_by(P.attempt)
    return {str(attempt): int(count) for attempt, count in sorted(tuple(row) for row in connection.execute(query))}


def _units(study: Study, counts: Counts) -> dict[str, Any]:
    """How many responses units have: of each model, and how many units have so many."""
    key = ["ladder", "rung", "seed", "control", "layer", "unit"]
    main = study.trials.filter(kind="main").select("condition", *key, "trial")
    by_unit: Counter[tuple[Any, ...]] = Counter()
    for row in main.iter_rows():
        by_unit[row[:-1]] += counts.get(row[-1], 0)
    models: dict[str, list[int]] = {}
    for unit, count in by_unit.items():
        models.setdefault(str(unit[0]), []).append(count)
    return {
        "responses": sum(by_unit.values()),
        "wanted": study.design.responses_per_unit,
        "models": [
            {"name": name, "units": len(each), "least": min(each), "mean": sum(each) / len(each), "most": max(each)}
            for name, each in models.items()
        ],
        "histogram": sorted(Counter(by_unit.values()).items()),
    }


def _seconds(connection: sa.Connection, n: int) -> list[float]:
    """The quartiles of the time that a main trial takes."""
    query = sa.select(R.seconds).where(R.kind == "main").order_by(R.seconds).limit(1)
    places = [min(n - 1, int(n * share)) for share in (0.25, 0.5, 0.75)] if n else []
    return [float(connection.execute(query.offset(place)).scalar_one()) for place in places]


def _minutes(connection: sa.Connection) -> list[float]:
    """The quartiles of the time from first to last, in minutes."""
    query = sa.select(P.finished_at - P.started_at).where(P.status == FINISHED)
    minutes = [float(seconds) / 60 for seconds in connection.execute(query).scalars()]
    return quantiles(minutes, n=4, method="inclusive") if len(minutes) > 1 else minutes * 3


def _latest(connection: sa.Connection, now: float) -> list[int]:
    """The responses of each of the last minutes, the latest last."""
    ago = sa.cast(sa.func.floor((now - R.answered_at) / 60.0), sa.Integer()).label("ago")
    query = sa.select(ago, sa.func.count()).where(R.answered_at > now - 60 * MINUTES).group_by(ago)
    counts = {int(minute): int(count) for minute, count in connection.execute(query)}
    return [counts.get(minute, 0) for minute in reversed(range(MINUTES))]
