"""A run that is made up: tables as a survey writes them, with names that try to be markup."""

import copy
import functools
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from thalweg import open_run
from thalweg.capability.columns import CAPABILITY
from thalweg.concepts.columns import CONCEPTS
from thalweg.edits.columns import EDITS
from thalweg.factors.claims import CLAIMS
from thalweg.files.whole import write_frame, write_json
from thalweg.pipeline import verdicts as curves
from thalweg.pipeline.descriptions import command, of_measures, of_twins
from thalweg.pipeline.settings import Settings
from thalweg.runs import directory
from thalweg.runs.run import Run
from thalweg.scoring import columns
from thalweg.scoring.populations import POPULATIONS
from thalweg.strength.axes import AXES

HOSTILE, QUOTED = "<script>alert(1)</script>", "a&b\"'"
KINDS = ("plain & 'simple'", '"><img src=x onerror=alert(2)>')
LOST = "</script><script>alert(3)</script>"  # a rung none of whose units could be measured
OWN = "mine & <b>own</b>"  # an observer that is not thalweg's
CONTROLS = ("trained", "untrained", "rotated")
BANDS = {"two_choice": ("extreme", "v90", "v75", "v60", "mean"), "one_sided": ("extreme", "v75", "v50", "mean")}
HEADLINE = {HOSTILE: "image", QUOTED: "image"}
TEXT = {"png": b"", "html": "", "pieces": ["<b>a</b>", " &amp;", "\nend"], "values": [0.0, -1.0, 3.0]}
NAN = float("nan")
FACTORS = ("spread", "unknown")
FACTOR = {"version": 3, "unit": "<b>units</b>", "range": [0, None], "higher_is": "more <i>so</i>"}
FACTOR |= {"cite": "Nobody <u>1900</u>", "meaning": "How <b>much</b>."}


@functools.cache
def judged_once(curve: curves.Curve) -> dict[str, Any]:
    """The verdict of a curve; many worlds have the same curves."""
    return curves.judged(curve)


def valley(strength: float) -> float:
    return 0.6 + 0.35 * abs(strength - 2) / 1.5


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), shade).save(file, format="PNG")
    return file.getvalue()


LAYERS = ("blocks.0.<mlp>", "blocks.1.<mlp>")


class World:
    """Rows of a run, made up: two ladders, of which one has a valley and one has too few rungs to tell."""

    def __init__(self) -> None:
        self.noise = np.random.default_rng(0)
        self.models: list[dict] = []
        self.scores: list[dict] = []
        for place in range(12):
            name = LOST if place == 11 else f"r{place} <i>&amp;"
            self.rung(HOSTILE, name, KINDS[place % 2], place, 0.5 + 3 * place / 11, seeds=2)
        for place in range(3):
            self.rung(QUOTED, f"{QUOTED}{place}", "one kind", place, 1.0 + place, seeds=1)

    @classmethod
    def of_one_model(cls) -> "World":
        """Rows of a run of one model, which has no curve."""
        world = cls.__new__(cls)
        world.noise, world.models, world.scores = np.random.default_rng(0), [], []
        world.rung(HOSTILE, "net<1>", KINDS[0], 0, 2.0, seeds=1)
        return world

    def rung(self, ladder: str, rung: str, kind: str, order: int, strength: float, *, seeds: int) -> None:
        for control, seed in itertools.product(CONTROLS, [*range(seeds), None]):
            basis = "random" if control == "rotated" else "neurons"
            key = {"ladder": ladder, "rung": rung, "kind": kind, "seed": seed, "control": control, "basis": basis}
            if seed is not None:
                self.models.append(self.model(key, order, strength))
            base = NAN if rung == LOST else valley(strength) if control == "trained" else 0.55
            for column in self.columns():
                score = base + 0.002 * self.noise.standard_normal()
                row = {"score": score, "low": score - 0.004, "high": score + 0.004, "coverage": 0.75 * (rung != LOST)}
                self.scores.append(key | column | row | {"n_units": 40, "n_measured": 30, "n_failed": 0})

    def model(self, key: dict, order: int, strength: float) -> dict:
        own = 0.0 if key["control"] == "untrained" else strength
        row = {
            "order": order,
            "modality": "image",
            "bits": own,
            "share": own / 4,
            "accuracy": 0.1 + own / 5,
            "probe": NAN,
            "parameters": 10**order,
        }
        row |= {"compute": int(1e9 * own * 2**order), "stopped": "<u>done</u>", "epochs": 3}
        scored = {"": 0.7, "_low": 0.6, "_high": 0.8, "_coverage": 0.75, "_reliability": 0.5}
        row |= {f"{word}{part}": value for word in ("predictable", "crisp") for part, value in scored.items()}
        row |= {"spread": strength / 2, "unknown": NAN}
        return key | row | {"n_units": 20, "n_failed": 0}

    @staticmethod
    def columns() -> list[dict]:
        found = []
        for observer in ("image", "hog", OWN, "random"):
            for measure, bands in BANDS.items():
                found += [(measure, observer, band, "") for band in bands]
            found.append(("one_sided_single", observer, "mean", "1"))
        found += [("one_sided_capacity", "image", "mean", capacity) for capacity in ("1", "2", "5", "20", "all")]
        return [dict(zip(columns.SCORE_KEY, one, strict=True)) for one in found]

    def save(self, path: Path) -> Run:
        models, scores = (pl.DataFrame(rows, infer_schema_length=None) for rows in (self.models, self.scores))
        seeds = pl.col("seed").cast(pl.Int32)
        frames = {"models": models, "scores": scores.with_columns(seeds)}
        each = frames["scores"].filter(pl.col("seed").is_not_null() & (pl.col("band") == "mean"))
        frames["layers"] = pl.concat(
            [each.with_columns(layer=pl.lit(name), depth=pl.lit(depth)) for depth, name in enumerate(LAYERS)]
        )
        frames["populations"] = pl.concat(
            frames["scores"]
            .filter(pl.col("observer") == "image", pl.col("measure") == measure, pl.col("band") == "mean")
            .filter((pl.col("control") == "trained") | (statistic in ("p10", "p90")))
            .with_columns(statistic=pl.lit(statistic), score=pl.col("score") - shift)
            .select(pl.col(name).cast(kind) for name, kind in POPULATIONS.items())
            for measure in ("one_sided", "one_sided_single")
            for statistic, shift in (("p10", 0.1), ("p90", -0.02), ("above_rotated", 0.5), ("minus_rotated", 0.6))
        )
        units = models.filter(pl.col("rung") != LOST).select(*columns.MODEL_KEY).with_columns(seeds)
        frames["distributions"] = pl.concat(
            [
                units.with_columns(measure=pl.lit(measure), bin=pl.lit(at, pl.Int32), n=pl.lit(5, pl.Int32))
                for measure in ("two_choice", "one_sided", "one_sided_single")
                for at in (12, 17)
            ]
        )
        frames["missing"] = units.with_columns(
            measure=pl.lit("one_sided"), note=pl.lit("because of <b>x</b>"), n=pl.lit(7, pl.Int32)
        )
        frames["gallery"] = pl.DataFrame(self.gallery())
        frames |= self.factors() | {"capability": self.capability(), "concepts": self.concepts()}
        frames |= {"claims": self.claims(), "edits": self.edits()}
        for name, frame in frames.items():
            write_frame(path / f"{name}.parquet", frame)
        weighed = curves.capability_curves(models, frames["capability"], Settings(), HEADLINE)
        judged = [*weighed, *curves.curves(models, frames["scores"], Settings(), HEADLINE)]
        judged = [one for one in judged if one.headline or (one.measure.startswith("tic") and one.kind == "all")]
        write_json(path / "shape.json", [copy.deepcopy(judged_once(one)) for one in judged])
        compared = [{"headline": "predictable", "pairs": [{"sentence": "<b>no</b> telling"}]}]
        write_json(path / "comparison.json", compared)
        write_json(path / "run.json", self.record())
        return open_run(path)

    def factors(self) -> dict[str, pl.DataFrame]:
        """The tables of factors: of one that has a number for every model, and of one that has none."""
        rows = [
            {name: row[name] for name in columns.NETWORK_KEY}
            | {"factor": factor, "factor_version": 1, "layer": "", "value": row[factor], "low": NAN, "high": NAN}
            | {"n": 7, "note": "" if factor == "spread" else "because <b>so</b>"}
            for row in self.models
            for factor in FACTORS
        ]
        ladders = list(dict.fromkeys(row["ladder"] for row in self.models))
        related = [
            {"ladder": ladder, "kind": "all", "factor": "spread", "headline": word, "rho": -0.5, "low": -0.9}
            | {"high": 0.1, "n_models": 11, "n_rungs": 6, "note": ""}
            for ladder in ladders
            for word in ("predictable", "crisp")
        ]
        return {"factors": pl.DataFrame(rows, schema=columns.FACTORS), "relations": pl.DataFrame(related)}

    def claims(self) -> pl.DataFrame:
        """A line for a hypothesis and one for a smaller claim, of each ladder and of the two beside each other."""
        ladders = list(dict.fromkeys(row["ladder"] for row in self.models))
        sides = [*((name, "") for name in ladders), *([tuple(ladders[:2])] if len(ladders) > 1 else [])]
        numbers = {"headline": "crisp", "held": "strength", "statistic": "correlation"}
        numbers |= {"value": -0.5, "low": -0.9, "high": -0.1, "n_models": 11, "n_rungs": 6, "note": "of <b>x</b>"}
        rows = [
            {"ladder": name, "other": other, "claim": claim, "quantity": "spread", "predicted": -1} | numbers
            for name, other in sides
            for claim in ("H2", "sparser")
        ]
        return pl.DataFrame(rows, schema=CLAIMS)

    def capability(self) -> pl.DataFrame:
        """What the best units of trained and untrained models carry; nothing of the rung that has no score."""
        rows = []
        for row in self.models:
            if row["control"] == "rotated":
                continue
            about = {name: row[name] for name in columns.NETWORK_KEY} | {"measure": "one_sided_single"}
            if row["rung"] == LOST:
                rows.append(about | {"ablation": "", "note": "because <b>not</b>"})
                continue
            bits = row["bits"]
            numbers = {"achievable": 4.0, "whole": bits, "floor": 0.0, "fraction": 0.5, "complement": bits / 2}
            numbers |= {"tic": bits / 2, "tic_low": bits / 2 - 0.1, "tic_high": bits / 2 + 0.1, "by_loss": bits * 0.9}
            numbers |= {"random": bits / 3, "random_low": bits / 4, "random_high": bits * 0.4, "p": 0.01}
            numbers |= {"excess": bits / 6, "excess_low": bits / 8, "excess_high": bits / 5, "least_excess": 0.2}
            for ablation in ("mean", "resample"):
                rows.append(
                    about | numbers | {"ablation": ablation, "cut": 0.25, "n_units": 4, "n_measured": 4, "note": ""}
                )
        return pl.DataFrame(rows, schema=CAPABILITY)

    def concepts(self) -> pl.DataFrame:
        """How far the models of a ladder share concepts, and two measures that go together."""
        key = ("ladder", "rung", "seed")
        rows = [
            {name: row[name] for name in key}
            | {"control": control, "layer": "", "measure": measure, "value": value, "low": value - 0.1}
            | {"high": value + 0.1, "n": 40, "note": "chance <b>0.1</b>"}
            for row in self.models
            for control, value, measures in (
                ("trained", 0.8, ("retrieval", "patch", "patch_mismatched", "crisp_shared")),
                ("shuffled", 0.1, ("retrieval", "patch", "patch_mismatched")),
                ("untrained", NAN, ("crisp_shared",)),
            )
            for measure in measures
            if row["ladder"] == QUOTED and row["control"] == "trained" and row["rung"] != LOST
        ]
        related = {"ladder": QUOTED, "rung": "", "control": "trained", "layer": "", "measure": "retrieval ~ patch"}
        return pl.DataFrame([*rows, related | {"value": 0.5, "low": NAN, "high": NAN, "n": 9, "note": ""}], CONCEPTS)

    def edits(self) -> pl.DataFrame:
        """What edits of facts do in the models of a ladder, and how the crossing of edits goes with strength."""
        rows = [
            {name: row[name] for name in ("ladder", "rung", "seed")}
            | {"control": "trained", "layer": "1", "method": method, "measure": measure, "value": value}
            | {"low": value - 0.1, "high": value + 0.1, "n": 20, "note": "because of <b>x</b>"}
            for row in self.models
            for method, measures, value in (
                ("rome", ("efficacy", "transfer"), 0.8),
                ("steer", ("efficacy", "transfer"), 0.9),
                ("redirect", ("redirected", "redirected_kept"), 0.7),
            )
            for measure in measures
            if row["ladder"] == QUOTED and row["control"] == "trained" and row["rung"] != LOST
        ]
        related = {
            "ladder": QUOTED,
            "rung": "",
            "control": "trained",
            "layer": "",
            "method": "rome",
            "n": 9,
            "note": "",
        }
        related |= {"measure": "transfer ~ strength", "value": 0.5, "low": NAN, "high": NAN}
        return pl.DataFrame([*rows, related], EDITS)

    def gallery(self) -> list[dict]:
        rungs = list(dict.fromkeys((row["ladder"], row["rung"]) for row in self.models))
        roles = [("high reference", 9), ("low reference", 9), ("high query", 1), ("low query", 1)]
        return [
            {"ladder": ladder, "rung": rung, "seed": 0, "standing": place, "layer": '<h1>"1"', "unit": unit}
            | {"measure": "one_sided", "value": 0.9, "role": role, "rank": rank, "first": role == "low query"}
            | {"stimulus": rank, "label": '"><svg onload=alert(4)>'}
            | ({"png": png(20 * rank), "html": "", "pieces": [], "values": []} if ladder == HOSTILE else TEXT)
            for ladder, rung in rungs
            for unit, place in enumerate(("best", "median", "worst"))
            for role, count in roles
            for rank in range(count)
        ]

    def record(self) -> dict:
        ladders = list(dict.fromkeys(row["ladder"] for row in self.models))
        told: dict = {
            "description": "made <em>up</em>",
            "data_hash": "0123456789abcdef",
            "stimuli": {"train": 1, "pool": 2},
        }
        seen = [("image", False), ("hog", False), (OWN, False), ("random", True)]
        told["observers"] = [
            {"name": name, "version": 1, "control": control, "sees": f"What <b>{name}</b> sees."}
            for name, control in seen
        ]
        told |= {"modality": "image", "strength": "held-out <bits>"}
        settings = Settings().affecting() | {"observer": ["image", "hog", OWN]}
        return {
            "format": directory.FORMAT,
            "settings": settings,
            "ladders": dict.fromkeys(ladders, told),
            "command": command(settings, dict.fromkeys(ladders, ())),
            "measures": of_measures(),
            "twins": of_twins([]),
            "axes": dict(AXES),
            "factors": {name: dict(FACTOR) for name in FACTORS},
            "capability": ladders,
            "concepts": ladders[:1],
            "claims": {"H2": "It is <i>so</i>.", "sparser": "It is <i>sparse</i>."},
            "edits": ladders[:1],
            "versions": {"python": "3.11", "thalweg": "0.1.0"},
            "device": "cpu",
            "seconds": {"train": 12345.6},
            "peak_memory_mib": 98765,
        }
