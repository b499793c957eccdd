"""A finished run, to be read: its tables as polars frames, its verdicts, recordings, stimuli and trials; and the
answers of observers that are asked about single trials.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.agreement.table import agreements
from thalweg.capability.columns import CAPABILITY
from thalweg.concepts.columns import CONCEPTS
from thalweg.edits.columns import EDITS
from thalweg.errors import ThalwegError, readable, unknown
from thalweg.factors.claims import CLAIMS
from thalweg.files import whole
from thalweg.measures.choices import ChoiceScores, score_choices
from thalweg.models.records import Ladder
from thalweg.observers.choices import TrialObserver
from thalweg.progress import Progress, Silent
from thalweg.runs import answers, asked, directory, explanations, people
from thalweg.runs.directory import RunDirectory
from thalweg.runs.display import shown_run
from thalweg.runs.recordings import RecordedHalves, model_file, read_recordings, recordings_file
from thalweg.runs.shared import folder_of
from thalweg.runs.stimuli import splits_again
from thalweg.runs.synthetic import read_synthetic
from thalweg.runs.trials import RecordedModel, TrialSettings, check_settings, trial_settings, trials_of
from thalweg.runs.unit import Unit
from thalweg.runs.units import read_units, scan_units, unit_files
from thalweg.scoring import columns
from thalweg.stimuli.base import Splits, Stimuli
from thalweg.trials.items import Trial

SCORE = [*columns.MODEL_KEY, "measure", "observer", "score", "low", "high", "n_units", "n_measured"]
COUNTED = ["ladder", "rung", "control", "basis", "measure", "n"]
COLUMNS: dict[str, list[str]] = {  # by which a table is known; a model's summary may have any others
    "models": [*columns.MODEL_KEY, "order", "n_units", "n_failed"],
    "scores": [*SCORE, "band", "capacity", "coverage", "n_failed"],
    "populations": [*SCORE, "statistic", "coverage"],
    "layers": [*SCORE, "layer", "depth"],
    "distributions": [*COUNTED, "bin"],
    "missing": [*COUNTED, "note"],
    "factors": [*columns.FACTORS],
    "relations": ["ladder", "kind", "factor", "headline", "rho", "low", "high", "n_models", "n_rungs", "note"],
    "claims": [*CLAIMS],
    "capability": [*CAPABILITY],
    "concepts": [*CONCEPTS],
    "edits": [*EDITS],
    "gallery": [
        "ladder",
        "rung",
        "seed",
        "standing",
        "layer",
        "unit",
        "role",
        "rank",
        "first",
        "png",
        "pieces",
        "values",
    ],
}
NEVER_EMPTY = ("models", "scores")
MODEL = ["ladder", "rung", "seed", "control"]
ROTATED = "rotated"
VERDICTS: dict[str, Any] = {
    **dict.fromkeys(("ladder", "kind", "control", "measure", "observer", "band", "capacity"), pl.String),
    **dict.fromkeys(("statistic", "axis", "basis"), pl.String),
    **dict.fromkeys(("headline", "verdict", "sentence", "reason"), pl.String),
    **dict.fromkeys(("n_models", "n_dropped"), pl.Int64),
    "minimum_detectable_depth": pl.Float64,
}
SHAPES = ("valley", "hump", "increasing", "decreasing", "flat")
SECTIONS = ("settings", "ladders", "versions", "measures", "factors", "twins", "axes")  # objects in run.json
SETTINGS: dict[str, type] = {"strength": str, "seed": int}  # what readers need of each object, and its kind
ENTRIES: dict[str, dict[str, type]] = {
    "ladders": {"observers": list, "strength": str, "stimuli": dict, "data_hash": str, "description": str},
    "measures": {"version": int, "headline": str, "meaning": str},
    "factors": {"version": int, "unit": str, "meaning": str},
}


Names = str | Sequence[str] | None


@dataclass(frozen=True)
class Run:
    """A finished run. Every table is read when it is first asked for.

    The page on the run directory lists the columns of each table.

    Attributes:
        path: The run directory.
        given: Ladders that do not ship, by name: their stimuli are made by their own functions.
        basis: The basis whose rows the tables hold; None: those of all bases.

    Example:
        >>> import thalweg
        >>> run = thalweg.open_run("runs/small-digits")
        >>> run.models.filter(control="trained")["rung"].to_list()
        ['softmax', 'mlp-4', 'mlp-64']
    """

    path: Path
    given: dict[str, Ladder] = field(default_factory=dict, repr=False, compare=False)
    basis: str | None = None
    _pools: dict[str, Stimuli] = field(default_factory=dict, init=False, repr=False, compare=False)

    def _repr_html_(self) -> str:
        """How a notebook shows the run."""
        return shown_run(self.in_basis(self.basis or self.bases[0]))

    def _frame(self, name: str) -> pl.DataFrame:
        return self._raw(name).filter(self._kept) if "basis" in COLUMNS[name] else self._raw(name)

    def _raw(self, name: str) -> pl.DataFrame:
        """A table in every basis. One of before format 9 does not say what its rows are in: the table of units does."""
        path, before = self.path / f"{name}.parquet", self._format < directory.WITH_BASES
        needed = [column for column in COLUMNS[name] if not (before and column == "basis")]
        needed += self.record["factors"] if name == "models" else ()
        frame = whole.read_frame(path, needed, least=int(name in NEVER_EMPTY))
        if not before or "basis" not in COLUMNS[name]:
            return frame
        return frame.with_columns(pl.col("control").replace_strict(self._basis_of, default="").alias("basis"))

    @cached_property
    def _format(self) -> int:
        """The format that the run has."""
        return int(directory.read_record(self.path / "run.json", directory.READABLE)["format"])

    @cached_property
    def _basis_of(self) -> dict[str, str]:
        """The basis of each control, of a run of before format 9."""
        models = whole.read_frame(self.path / "models.parquet", MODEL).select(*MODEL[:3]).unique(maintain_order=True)
        files = unit_files(self.path, [model_file(*model) for model in models.iter_rows()])
        return dict(scan_units(files).select("control", "basis").unique().collect().iter_rows())

    @property
    def _kept(self) -> pl.Expr:
        """Which rows are of this run's basis, if it is of one."""
        if self.basis is None:
            return pl.lit(True)
        if self.basis in self._others:
            return (pl.col("basis") == self.basis) & (pl.col("control") != ROTATED)
        return columns.in_main_basis(self._others)

    @property
    def _others(self) -> tuple[str, ...]:
        """The bases beside the main one."""
        return tuple(self.record["settings"].get("basis") or ())[1:]

    @cached_property
    def bases(self) -> tuple[str, ...]:
        """What units are in this run: first the main basis, whose scores are the headline, then those beside it."""
        models = self._raw("models").filter(control="trained")
        return (models["basis"][0], *self._others)

    def in_basis(self, name: str) -> "Run":
        """This run with the rows of one basis alone in its tables. In the main basis these include the rotated twin's.

        Args:
            name: One of `bases`.

        Raises:
            ThalwegError: the run has no such basis.

        Example:
            >>> import thalweg
            >>> run = thalweg.open_run("runs/small-digits")
            >>> run.bases
            ('neurons',)
            >>> run.in_basis("neurons").models["control"].unique(maintain_order=True).to_list()
            ['trained', 'untrained', 'rotated']
        """
        if name not in self.bases:
            raise unknown("basis of this run", name, self.bases)
        return replace(self, basis=name)

    def _objects(self, name: str) -> list[dict[str, Any]]:
        """A JSON file that is a list of objects."""
        path = self.path / name
        objects = whole.read_json(path)
        if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
            raise whole.Damaged(path, "a list of objects was expected")
        return objects

    @cached_property
    def models(self) -> pl.DataFrame:
        """A row per model and control."""
        frame = self._frame("models")
        whole.check_columns(self.path / "models.parquet", frame.columns, [*self.record["axes"], *self.headlines])
        return frame

    @cached_property
    def units(self) -> pl.DataFrame:
        """A row per unit and measure, of all models: 10 kB of memory a unit. `scan_units` reads less."""
        return read_units(self._unit_files()).filter(self._kept)

    def scan_units(self) -> pl.LazyFrame:
        """The table of units to be read lazily: only what a query needs comes into memory, so that a run of millions
        of units can be asked.

        Returns:
            The same rows as `units`, as a polars LazyFrame.

        Raises:
            ThalwegError: a file of units is missing or damaged.

        Example:
            >>> import thalweg
            >>> units = thalweg.open_run("runs/small-digits").scan_units()
            >>> units.filter(control="trained").select("rung", "unit").unique().collect().height
            78
        """
        return scan_units(self._unit_files()).filter(self._kept)

    def _unit_files(self) -> list[Path]:
        """The files of the table of units."""
        models = self._raw("models").filter(control="trained").select(*MODEL[:3], "basis").unique(maintain_order=True)
        names = [
            model_file(ladder, rung, seed, self._beside(basis)) for ladder, rung, seed, basis in models.iter_rows()
        ]
        return unit_files(self.path, names)

    def _beside(self, basis: str | None) -> str:
        """A basis as files are named by it: those in the main one are not."""
        return basis if basis in self._others else ""

    @cached_property
    def scores(self) -> pl.DataFrame:
        """A row per model or rung (seed missing) and measure."""
        return self._frame("scores")

    @cached_property
    def populations(self) -> pl.DataFrame:
        """What the mean over units hides: a row per model or rung (seed missing), headline measure and statistic, which
        is the 10th or 90th percentile of the units (`p10`, `p90`), the share above the layer's rotated twin
        (`above_rotated`), or the mean minus that twin's (`minus_rotated`).
        """
        return self._frame("populations")

    @cached_property
    def layers(self) -> pl.DataFrame:
        """A row per model, layer and headline measure."""
        return self._frame("layers")

    @cached_property
    def distributions(self) -> pl.DataFrame:
        """How units spread over a headline's range."""
        return self._frame("distributions")

    @cached_property
    def missing(self) -> pl.DataFrame:
        """How many units have no headline score, and why."""
        return self._frame("missing")

    @cached_property
    def factors(self) -> pl.DataFrame:
        """A row per model, control and factor, and one per layer where the model's number is the layers' mean."""
        return self._frame("factors")

    @cached_property
    def relations(self) -> pl.DataFrame:
        """How factors go with the headlines over models: a row per ladder, kind, factor and headline."""
        return self._frame("relations")

    @cached_property
    def claims(self) -> pl.DataFrame:
        """What the run says of the hypotheses and of smaller claims: associations and means, none of which is a cause.
        No rows where the run is older than the table.
        """
        if not self.record.get("claims"):
            return pl.DataFrame(schema=CLAIMS)
        return self._frame("claims")

    @cached_property
    def capability(self) -> pl.DataFrame:
        """How much of what a model can do its best-scored units carry: a row per model, control (`trained`,
        `untrained`), ablation and cut; none where it was not asked for, or the run is older than the question.
        """
        if not self.record.get("capability"):
            return pl.DataFrame(schema=CAPABILITY)
        return self._frame("capability")

    @property
    def synthetic(self) -> dict[str, Any]:
        """The scores of models with natural and with synthetic references (`points`) and the verdicts on their curves
        (`verdicts`), where `thalweg visualise` made them; none of models that were made anew since.
        """
        return read_synthetic(self.path)

    @cached_property
    def concepts(self) -> pl.DataFrame:
        """How far the models of a ladder share concepts between two languages: a row per model, control, layer and
        measure; none where no ladder has concepts, or the run is older than the question.
        """
        if not self.record.get("concepts"):
            return pl.DataFrame(schema=CONCEPTS)
        return self._frame("concepts")

    @cached_property
    def edits(self) -> pl.DataFrame:
        """What edits of facts change in the models of a ladder: a row per model, control, method and measure; none
        where no ladder has facts to edit, or the run is older than the question.
        """
        if not self.record.get("edits"):
            return pl.DataFrame(schema=EDITS)
        return self._frame("edits")

    @cached_property
    def gallery(self) -> pl.DataFrame:
        """The stimuli of the best, median and worst units."""
        return self._frame("gallery")

    @cached_property
    def shape(self) -> list[dict[str, Any]]:
        """The verdicts, one for each ladder, kind, measure, observer, band and strength axis."""
        verdicts = [{"basis": self.bases[0], **each} for each in self._objects("shape.json")]
        if self.basis is not None:
            others = self.basis in self._others
            verdicts = [
                each
                for each in verdicts
                if (each["basis"] == self.basis if others else each["basis"] not in self._others)
            ]
        if not verdicts and any(len(rungs) > 1 for rungs in self._rungs().values()):
            raise whole.Damaged(self.path / "shape.json", "it holds no verdict, and a ladder has several rungs")
        return verdicts

    def _rungs(self) -> dict[str, set[str]]:
        """The rungs of each ladder."""
        rungs_of: dict[str, set[str]] = {}
        for ladder, rung in self.models.select("ladder", "rung").iter_rows():
            rungs_of.setdefault(ladder, set()).add(rung)
        return rungs_of

    @cached_property
    def comparison(self) -> list[dict[str, Any]]:
        """Whether ladders have the same shape: one for each headline and pair of ladders."""
        return self._objects("comparison.json")

    @cached_property
    def record(self) -> dict[str, Any]:
        """Settings, versions, hashes, seconds and peak memory."""
        path = self.path / "run.json"
        record = directory.read_record(path, directory.READABLE)
        for name in SECTIONS:
            if not isinstance(record.get(name), dict):
                raise whole.Damaged(path, f"an object named {name!r} was expected in it")
        if lacking := _lacking(record["settings"], SETTINGS):
            raise whole.Damaged(path, f"its settings lack {lacking}")
        for section, needed in ENTRIES.items():
            for name, about in record[section].items():
                if lacking := _lacking(about, needed):
                    raise whole.Damaged(path, f"what it says of {section.rstrip('s')} {name!r} lacks {lacking}")
        return record

    @property
    def headlines(self) -> dict[str, str]:
        """The measure of each headline, {"predictable": "one_sided", ...}, as the run was measured."""
        return {about["headline"]: name for name, about in self.record["measures"].items() if about["headline"]}

    @property
    def verdict(self) -> dict[str, dict[str, Any]]:
        """The headline verdicts, {ladder: {"predictable": ..., "crisp": ...}}, over all kinds of rungs."""
        overall = {(record["ladder"], record["headline"]): record for record in self.shape if record["kind"] == "all"}
        return {
            ladder: {word: overall[ladder, word] for word in self.headlines if (ladder, word) in overall}
            for ladder in self.record["ladders"]
        }

    @property
    def verdicts(self) -> pl.DataFrame:
        """A row per verdict: ladder, kind, control, measure, observer, band, capacity, statistic (the mean over units,
        or one of `populations`), axis, basis, headline, the verdict with its sentence and reason, the numbers of
        models, the depth with its interval (in score units) and the p values that decide.
        """
        rows = []
        for each in self.shape:
            depth = each["depth"] or {}
            numbers = {"depth": depth.get("value"), "depth_low": depth.get("low"), "depth_high": depth.get("high")}
            numbers |= {f"p_{shape}": each["p"].get(shape) for shape in SHAPES}
            rows.append({**{name: each[name] for name in VERDICTS}, **numbers})
        depths = ("depth", "depth_low", "depth_high", *(f"p_{shape}" for shape in SHAPES))
        return pl.DataFrame(rows, schema={**VERDICTS, **dict.fromkeys(depths, pl.Float64)})

    def recordings(
        self, ladder: str | Ladder, rung: str, *, seed: int = 0, control: str = "trained", basis: str | None = None
    ) -> Mapping[str, RecordedHalves]:
        """What was recorded of the units of one model, by layer: for each half of the pool the highest and lowest
        stimuli of every unit with their values, a random sample of values, and moments.

        Args:
            ladder: The ladder or its name.
            rung: The rung's name.
            seed: The model's seed.
            control: `trained`, or the name of a twin.
            basis: One of `bases`; by default the main one.

        Returns:
            By the layer's name, the recordings of the reference half and of the query half. `recording.highest()`
            gives values and ids of stimuli, both (unit, k).

        Raises:
            ThalwegError: the run has no such model, or the file is missing or damaged.
        """
        name = self._check_model(ladder, rung, seed, control)
        basis = (self.in_basis(basis) if basis else self).basis
        return read_recordings(self.path / recordings_file(name, rung, seed, control, self._beside(basis))).layers

    def stimuli(self, ladder: str | Ladder, *, data: str | Path | Splits | Stimuli | None = None) -> Stimuli:
        """The pool of a ladder, in which the ids of stimuli are positions: made again as the run made it, and checked
        by its hash. It is kept, so asking again costs nothing.

        Args:
            ladder: The ladder or its name. One that does not ship is given itself, here or to `open_run`.
            data: The file or folder with the stimuli, if it lies elsewhere now; or the stimuli themselves.

        Raises:
            ThalwegError: the stimuli cannot be made again, or are others than those of the run.
        """
        name = self._check_ladder(ladder)
        if name not in self._pools or data is not None:
            about, run_seed = self.record["ladders"][name], self.record["settings"]["seed"]
            splits = splits_again(about, name, seed=run_seed, given=self.given.get(name), data=data)
            self._pools[name] = splits.pool
        return self._pools[name]

    def trials(
        self,
        ladder: str | Ladder,
        rung: str,
        *,
        seed: int = 0,
        control: str = "trained",
        **settings: Any,
    ) -> list[Trial]:
        """Trials about the units of one model, derived from its recordings.

        Each unit's trials are different pairs of queries, drawn at random and spread evenly over the bands. The same
        call gives the same trials with the same ids, and a larger `per_unit` gives the same first ones.

        Args:
            ladder: The ladder or its name.
            rung: The rung's name.
            seed: The model's seed.
            control: `trained`, or the name of a twin.
            settings: The fields of `TrialSettings`: `layer`, `units`, `band`, `per_unit`, `matched`.

        Raises:
            ThalwegError: the run has no such model, layer or unit, or a number is out of range.
        """
        name = self._check_model(ladder, rung, seed, control)
        checked = trial_settings(settings)
        model = self._recorded(name, rung, seed, control)
        check_settings(model, checked)
        return list(trials_of(model, checked))

    def unit(
        self, ladder: str | Ladder, rung: str, layer: str, unit: int, *, seed: int = 0, control: str = "trained"
    ) -> Unit:
        """One unit: its scores, and the stimuli that drive it most and least. A notebook shows them.

        Args:
            ladder: The ladder or its name.
            rung: The rung's name.
            layer: The layer's name.
            unit: The unit's number in its layer.
            seed: The model's seed.
            control: `trained`, or the name of a twin.

        Raises:
            ThalwegError: the run has no such model, layer or unit, or the stimuli can't be made again.
        """
        name = self._check_model(ladder, rung, seed, control)
        check_settings(self._recorded(name, rung, seed, control), TrialSettings(layer=layer, units=(unit,)))
        recorded = self.recordings(name, rung, seed=seed, control=control)[layer].reference
        index = recorded.unit_ids.tolist().index(unit)
        (high, highest), (low, lowest) = recorded.highest(), recorded.lowest()
        key = {"ladder": name, "rung": rung, "seed": seed, "control": control, "layer": layer, "unit": unit}
        sides = ([side[index].tolist() for side in pair] for pair in ((highest, high), (lowest, low)))
        kept = [_kept(ids, values) for ids, values in sides]
        said = f"{name}, {rung}, seed {seed}, {control}: {layer}, unit {unit}"
        scores = self.in_basis(self.basis or self.bases[0]).scan_units().filter(**key).collect()
        return Unit(said, scores, *kept[0], *kept[1], self.stimuli(name), tuple(self.headlines.values()))

    @property
    def answers(self) -> pl.DataFrame:
        """A row per answer to a single trial: trial, observer, version, ladder, rung, seed, control, layer, unit, band,
        picked (0: the first query shown, 1: the second), correct, confidence (0 to 1), seconds, and the note of an
        answer that failed. Read anew each time, for answers come in. People's have the observer `people:STUDY`, and
        several of them may answer one trial. Answers about models that were made anew since are left out.
        """
        of_people = people.as_answers(people.read_people(self.path))
        there = self.without_stale(answers.read_answers(self.path))
        return pl.concat([there, of_people]).sort(answers.ORDER, maintain_order=True)

    @property
    def stale_answers(self) -> pl.DataFrame:
        """The answers to single trials of models that the run has no more: it was made again with others. `answers`
        leaves them out. Read anew each time.
        """
        every = answers.read_answers(self.path)
        return every.filter(~pl.col("made_from").is_in(self._made_from(every)))

    def without_stale(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Answers, or rows of what was asked, without those about models that were made anew since.

        Args:
            rows: They have `made_from` and the columns that name a model.

        Returns:
            The others; rows that do not say what their model was made from are kept.
        """
        return rows.filter(pl.col("made_from").is_in(self._made_from(rows)))

    def _made_from(self, rows: pl.DataFrame) -> list[str]:
        """What the models that rows are about are made from now; and nothing, which old rows say."""
        named = rows.filter(pl.col("made_from") != "").select(*MODEL).unique(maintain_order=True)
        there = set(self._raw("models").select(*MODEL).cast({"seed": pl.Int32}).iter_rows()) if len(named) else set()
        return ["", *(self._recorded(*model).identity for model in named.iter_rows() if model in there)]

    @property
    def asked(self) -> pl.DataFrame:
        """A row per question to a language model, with its raw reply: the form, the model and the version of the
        prompts, the unit, the stimuli shown, which of them were right and which the reply picks, probabilities, and the
        note of a reply that is no answer. Read anew each time. Questions about models that were made anew since are
        left out.
        """
        return self.without_stale(asked.read_asked(self.path))

    @property
    def explanations(self) -> pl.DataFrame:
        """A row per explanation of a unit in words: ladder, rung, seed, control, layer, unit, explanation, explainer
        (the model that wrote it), version (of the prompts; 0 where a file brought it), method. Read anew each time.
        """
        return explanations.read_explanations(self.path)

    def export_explanations(self, path: str | Path) -> int:
        """Write the explanations as the JSON that Neuronpedia imports: an array for a name that ends in `.json`, else
        an object a line, compressed for `.gz`.

        Args:
            path: The file.

        Returns:
            How many there are.

        Raises:
            ThalwegError: there are none, or the file cannot be written.
        """
        frame = self.explanations
        if frame.is_empty():
            raise ThalwegError(
                f"{readable(self.path)}: there are no explanations to export; thalweg ask writes some with --form "
                "explanation"
            )
        explanations.write_neuronpedia(frame, Path(path))
        return len(frame)

    def import_explanations(self, path: str | Path, layers: Mapping[str, str] | None = None) -> int:
        """Read explanations from a file of Neuronpedia's, and keep them in the run.

        Args:
            path: A JSON file: an array, or an object a line; compressed if its name ends in `.gz`.
            layers: The layers of the run by the names that the file gives them, as {"6-res-jb": "transformer.h.6"}.

        Returns:
            How many were read.

        Raises:
            ThalwegError: the file is not there or damaged, or names a model, layer or unit that the run has not.
        """
        models = self._raw("models").select(*MODEL).unique(maintain_order=True).to_dicts()
        names = self._raw("layers")["layer"].unique().to_list()
        read = explanations.read_neuronpedia(Path(path), models, names, layers or {})
        run = RunDirectory(self.path)
        with run.locked():
            explanations.add_explanations(run, read)
        return len(read)

    def agreements(self) -> pl.DataFrame:
        """How far each observer that answered single trials agrees with each other observer: Spearman's correlation of
        their scores over units and over models, with what the noise of the answers takes from it.

        Returns:
            A row per answering observer (of a language model: one for each form), version, ladder, control, level
            (`units`, `units within models`, `models`), other observer and its measure: `rho`, the `reliability` of the
            answers, and `corrected`, the correlation divided by the square root of the reliability, each with a 95 %
            interval (`low`, `high`); n units or models; a note where a number is missing.

        Raises:
            ThalwegError: a file of the run is missing or damaged.
        """
        main = self.in_basis(self.bases[0])
        seed = self.record["settings"]["seed"]
        return agreements(main.answers, main.scan_units(), main.headlines, asked=main.asked, seed=seed)

    def answer(
        self,
        observer: TrialObserver,
        *,
        ladder: Names | Ladder = None,
        rung: Names = None,
        seed: int | Sequence[int] | None = None,
        control: Names = None,
        retry: bool = False,
        progress: Progress | None = None,
        **settings: Any,
    ) -> ChoiceScores:
        """Let an observer answer trials one by one, store its answers in `answers.parquet`, and score them.

        No stored answer is asked for again, so after an interruption the same call goes on where it stopped.

        Args:
            observer: The observer.
            ladder: The ladder or several; by default all whose stimuli the observer sees.
            rung: The rung or several; by default all.
            seed: The seed of a model or several; by default all.
            control: `trained`, a twin, or several; by default all.
            retry: Ask again about the trials whose answers failed.
            progress: Where it is said how far the work is, and how many answers failed.
            settings: The fields of `TrialSettings`, as for `trials`; a model without such a layer is passed over.

        Returns:
            The proportion correct by unit, layer and model, of the answers to these trials.

        Raises:
            ThalwegError: there are no such trials or stimuli, or the observer failed ten times in a row.
        """
        checked = trial_settings(settings)
        filters = {"ladder": ladder, "rung": rung, "seed": seed, "control": control}
        return self._answer(observer, list(self._asked(observer, checked, filters)), retry, progress or Silent())

    def _answer(self, observer: TrialObserver, trials: list[Trial], retry: bool, progress: Progress) -> ChoiceScores:
        """Let an observer answer those of the trials that it has not answered yet, and score its answers to all."""
        if not trials:
            raise ThalwegError(f"there are no trials for observer {observer.name!r} among those that were asked for")
        run = RunDirectory(self.path)
        with run.locked():
            run.remove_partials()
            todo = answers.unanswered(trials, answers.put_together(run), observer, retry=retry)
            asking = answers.Asking(run, observer)
            try:
                with progress.stage("answers", len(todo)) as advance:
                    answers.answer_all(asking, todo, advance)
            finally:
                table = answers.put_together(run)
        if asking.failed:
            progress.say(
                f"{asking.failed} of {len(todo)} answers of observer {observer.name!r} failed; the first one: "
                f"{asking.first_problem}"
            )
        own = table.filter(observer=observer.name, version=observer.version)
        return score_choices(own.filter(pl.col("trial").is_in({trial.id for trial in trials})))

    def _asked(self, observer: TrialObserver, settings: TrialSettings, filters: Mapping[str, Any]) -> Iterator[Trial]:
        """The trials that an observer is asked, model by model; the stimuli are made first."""
        for model in self.recorded_models(f"observer {observer.name!r}", observer.modality, filters):
            yield from trials_of(model, settings)

    def recorded_models(
        self, who: str, modality: str, filters: Mapping[str, Any], progress: Progress | None = None
    ) -> list[RecordedModel]:
        """The models and twins that someone is asked about, with all that their trials are derived from, in the main
        basis; their stimuli are made.

        Args:
            who: Who is asked, as the subject of a message.
            modality: The modality of stimuli that they see; empty for any.
            filters: Which ones: a name or several, or None for all, by `ladder`, `rung`, `seed` and `control`.
            progress: Where it is said that stimuli are made.

        Raises:
            ThalwegError: there are none, or the stimuli cannot be made again.
        """
        models = self._raw("models").filter(columns.in_main_basis(self._others))
        models = models.sort("order", maintain_order=True).select(*MODEL)
        seen = [name for name, about in self.record["ladders"].items() if modality in ("", about["modality"])]
        models = models.filter(pl.col("ladder").is_in(seen))
        if models.is_empty():
            raise ThalwegError(f"{who} sees {modality!r}, and no ladder of the run has any")
        for column, wanted in filters.items():
            names: list[Any] = [wanted] if isinstance(wanted, str | int | Ladder) else list(wanted or ())
            names = [self._check_ladder(name) if column == "ladder" else name for name in names]
            for name in names:
                if name not in models[column].to_list():
                    raise unknown(f"{column} that is asked about", str(name), map(str, models[column].unique()))
            models = models.filter(pl.col(column).is_in(names)) if names else models
        ladders = models["ladder"].unique(maintain_order=True)
        with (progress or Silent()).stage("stimuli", len(ladders)) as advance:
            for name in ladders:
                self.stimuli(name)
                advance()
        return [self._recorded(*model) for model in models.iter_rows()]

    def _check_ladder(self, ladder: str | Ladder) -> str:
        """The name of a ladder of the run; the ladder itself, if it is given, is kept.

        Raises:
            ThalwegError: the run has no such ladder.
        """
        name = ladder.name if isinstance(ladder, Ladder) else ladder
        if name not in self.record["ladders"]:
            raise unknown("ladder of this run", name, self.record["ladders"])
        if isinstance(ladder, Ladder):
            self.given[name] = ladder
        return name

    def _check_model(self, ladder: str | Ladder, rung: str, seed: int, control: str) -> str:
        """The name of the ladder of a model of the run.

        Raises:
            ThalwegError: the run has no such model.
        """
        name = self._check_ladder(ladder)
        models = self._raw("models").filter(ladder=name)
        for column, value in (("rung", rung), ("seed", seed), ("control", control)):
            if value not in models[column].to_list():
                raise unknown(f"{column} of {name!r}", str(value), map(str, models[column].unique()))
            models = models.filter(pl.col(column) == value)
        return name

    def _recorded(self, ladder: str, rung: str, seed: int, control: str) -> RecordedModel:
        """One model or twin of the run, with all that its trials are derived from."""
        trained = whole.read_json(self.path / f"steps/train-{model_file(ladder, rung, seed)}.json")
        return RecordedModel(
            ladder,
            rung,
            seed,
            control,
            data_hash=self.record["ladders"][ladder]["data_hash"],
            made_from=trained["inputs"],
            run_seed=self.record["settings"]["seed"],
            file=self.path / recordings_file(ladder, rung, seed, control),
            load=partial(self.stimuli, ladder),
        )


def _kept(ids: list[int], values: list[float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The stimuli of one side that there are: a short pool has fewer than are kept."""
    there = [(each, value) for each, value in zip(ids, values, strict=True) if each >= 0]
    return tuple(each for each, _ in there), tuple(value for _, value in there)


def _lacking(about: Any, needed: Mapping[str, type]) -> str:
    """The first name that an object lacks, or that it has with a value of another kind or an empty list; else ""."""
    if not isinstance(about, dict):
        return next(iter(needed))
    return next(
        (name for name, kind in needed.items() if not isinstance(about.get(name), kind) or about[name] == []), ""
    )


def open_run(path: str | Path, *given: Ladder) -> Run:
    """Open the finished run in a directory.

    Args:
        path: The run directory, as `runs/mnist`; or `hf://OWNER/NAME`, a run that was shared on the Hugging Face hub
            and fetched before.
        *given: Ladders of the run that do not ship, for reading their stimuli.

    Returns:
        The run, with its tables and verdicts.

    Raises:
        ThalwegError: There is no run, it is not finished, it has another format, or was not fetched.

    Example:
        >>> import thalweg
        >>> thalweg.open_run("runs/small-digits").record["ladders"]["small-digits"]["modality"]
        'image'
    """
    run = RunDirectory(folder_of(path))
    if not ((run / "run.json").exists() or (run / "settings.json").exists()):
        what = "there is no run in it" if run.path.exists() else "there is no such file or folder"
        raise ThalwegError(f"{readable(run.path)}: {what}; the folder of a survey was expected, as runs/mnist")
    if not (run / "run.json").is_file() and (run / "settings.json").is_file():
        raise ThalwegError(
            f"{readable(run.path)}: this run is not finished: run.json, its last file, is not there; wait for the "
            "survey that is at work, or give its command again"
        )
    directory.read_record(run / "run.json", directory.READABLE)
    return Run(run.path, {ladder.name: ladder for ladder in given})
