"""Language models asked about the units of a finished run: `thalweg ask`."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from thalweg.errors import ThalwegError, readable, unknown
from thalweg.pipeline.along import model_along
from thalweg.progress import Progress, Silent
from thalweg.prompting import prompts
from thalweg.prompting.costs import Plan, Planned, Prices, Spending, planned
from thalweg.prompting.endpoint import REPLY_TOKENS, Endpoint, RequestFailed
from thalweg.prompting.forms import (
    BY_SENTENCE,
    EXPLANATION,
    FORMS,
    NEEDS_SENTENCE,
    NEEDS_TOKENS,
    SIMULATION,
    TWO,
    Along,
    Asking,
    UnitStimuli,
    questions_of,
    two_alternative,
    unit_stimuli,
)
from thalweg.prompting.local import LocalModel
from thalweg.prompting.parsing import read_reply
from thalweg.prompting.questions import Question, Reply, Unit
from thalweg.prompting.scores import model_scores, unit_scores
from thalweg.runs import asked
from thalweg.runs.directory import RunDirectory
from thalweg.runs.explanations import UNIT
from thalweg.runs.run import Run, open_run
from thalweg.runs.trials import RecordedModel, TrialSettings, check_settings, trial_settings, trials_of
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Stimuli
from thalweg.study.design import Study, open_study
from thalweg.subjects.checkpoints import named
from thalweg.trials.building import REFERENCES
from thalweg.trials.items import Trial

LOCAL = "hf:"
PARALLEL = 8
UNITS = 4  # of each layer
MOST_FAILURES = 10  # requests in a row without an answer: the endpoint is out of reach
UNKNOWN_SENTENCE = "x" * 120  # stands for an explanation that is not written yet, where tokens are counted


class Model(Protocol):
    """A language model that can be asked."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    async def reply(self, question: Question) -> Reply:
        """What it says to a question."""
        ...


@dataclass(frozen=True)
class AskSettings:
    """How a language model is asked.

    Attributes:
        form: The forms: `2afc`, `detection`, `fuzzing`, `intruder`, `explanation`, `2afc-explained`,
            `detection-explained`, `simulation`.
        references: References shown of each kind, nine at most.
        explainer: Whose explanations the forms without references go by; by default the model's own.
        parallel: Requests on their way at once.
        timeout: Seconds after which a request is given up.
        retries: How often a request is sent again.
        reply_tokens: The most tokens of a reply; by default a few.
        price_prompt: The price of a million tokens of prompts.
        price_reply: The price of a million tokens of replies.
        budget: What may be spent, in the same money.
        retry: Ask again where a reply was no answer.

    Example:
        >>> import thalweg
        >>> thalweg.AskSettings(form=("2afc", "detection"), parallel=4).references
        9
    """

    form: tuple[str, ...] = (TWO,)
    references: int = REFERENCES
    explainer: str = ""
    parallel: int = PARALLEL
    timeout: float = 60.0
    retries: int = 6
    reply_tokens: int | None = None
    price_prompt: float | None = None
    price_reply: float | None = None
    budget: float | None = None
    retry: bool = False

    @property
    def prices(self) -> Prices | None:
        """The prices, if they are known."""
        if self.price_prompt is None or self.price_reply is None:
            return None
        return Prices(float(self.price_prompt), float(self.price_reply))

    def check(self) -> "AskSettings":
        """These settings, checked.

        Raises:
            ThalwegError: one is out of range.
        """
        for form in self.form:
            if form not in FORMS:
                raise unknown("form", form, FORMS)
        if not 1 <= self.references <= REFERENCES:
            raise ThalwegError(f"references is {self.references}; 1 to {REFERENCES} were expected")
        for name in ("parallel", "timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise ThalwegError(f"{name} is {getattr(self, name)} (--{name}); a number above 0 was expected")
        amounts = {name: getattr(self, name) for name in ("price_prompt", "price_reply", "budget", "retries")}
        for name, amount in amounts.items():
            if amount is not None and not 0 <= amount < math.inf:
                raise ThalwegError(f"{name} is {amount} (--{name.replace('_', '-')}); a number from 0 up was expected")
        if (self.price_prompt is None) != (self.price_reply is None):
            raise ThalwegError("one price is given: give both, --price-prompt and --price-reply, or none")
        if self.budget is not None and self.prices is None:
            raise ThalwegError("a budget needs prices: give --price-prompt and --price-reply, of a million tokens")
        return self


@dataclass(frozen=True, eq=False)
class Asked:
    """What a language model was asked, and what came of it.

    Attributes:
        run: The run, whose tables hold the replies.
        model: The model's name.
        scores: A row per model or twin and form: `value` with `low` and `high`, the floors `chance` and `majority`,
            units, replies, and how many failed.
        units: A row per unit and form: `value` with its interval.
        answered: How many questions were answered now.
        unanswered: How many were not: the budget ended before.
        spent: What was spent, if prices are known.
    """

    run: Run
    model: str
    scores: pl.DataFrame
    units: pl.DataFrame
    answered: int
    unanswered: int
    spent: float | None


def ask(
    run: Run | str | Path,
    model: str,
    *,
    base_url: str | None = None,
    ladder: Any = None,
    rung: Any = None,
    seed: Any = None,
    control: Any = None,
    study: str | Path | None = None,
    agree: Callable[[Plan], bool] | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Asked:
    """Ask a language model about the units of a finished run, and keep its replies in the run.

    Nothing that is answered is asked again, so after an interruption the same call goes on where it stopped.

    Args:
        run: The run, or its directory.
        model: The name of a model behind an endpoint; or `hf:` and a folder, a GGUF file or a name in the hub's cache,
            for a causal language model of this machine.
        base_url: The endpoint's address; by default that in OPENAI_BASE_URL, or OpenAI's own. The key is in
            OPENAI_API_KEY.
        ladder: The ladder or several; by default all.
        rung: The rung or several; by default all.
        seed: The seed of a model or several; by default all.
        control: `trained`, a twin, or several; by default all.
        study: A study of this run, or its folder: asks the trials that its participants are asked, and other forms
            about the same units.
        agree: Is shown what is about to be sent; nothing is where it returns False. By default nobody is asked.
        progress: Where it is said how far the work is.
        settings: The fields of `AskSettings` and, without a study, of `TrialSettings`; 4 units of each layer by
            default.

    Returns:
        The scores by form, with their floors.

    Raises:
        ThalwegError: a mistake that the user can mend, before anything is sent; or an endpoint that no more answers.

    Example:
        >>> import thalweg
        >>> thalweg.ask("runs/words", "hf:SmolLM2.gguf", form=["2afc", "intruder"], units=2)  # doctest: +SKIP
    """
    opened = run if isinstance(run, Run) else open_run(run)
    given = {name: value for name, value in settings.items() if name in AskSettings.__dataclass_fields__}
    if isinstance(given.get("form"), str):
        given["form"] = (given["form"],)
    given["form"] = tuple(dict.fromkeys(given.get("form", (TWO,))))
    chosen = AskSettings(**given).check()
    about = {name: value for name, value in settings.items() if name not in given}
    opened_study = _study_of(opened, study, about) if study is not None else None
    trials = trial_settings({"units": UNITS, **about})
    client: Model = (
        LocalModel(named(model.removeprefix(LOCAL)))
        if model.startswith(LOCAL)
        else Endpoint(model, base_url, timeout=chosen.timeout, retries=chosen.retries, reply_tokens=chosen.reply_tokens)
    )
    filters = {"ladder": ladder, "rung": rung, "seed": seed, "control": control}
    with RunDirectory(opened.path).locked():
        if isinstance(client, Endpoint) and asked.read_asked(opened.path).filter(model=client.name).is_empty():
            run_to_end(_check(client, ()))  # before stimuli are made again, which can take minutes
        models = opened.recorded_models(f"model {client.name!r}", "", filters, progress)
        if opened_study:
            models = _in_study(models, opened_study)
        asking = agree or (lambda _: True)
        return Session(opened, client, chosen, trials, models, asking, progress or Silent(), opened_study).run_all()


def _study_of(run: Run, name: str | Path, about: Mapping[str, Any]) -> Study:
    """A study of the run.

    Raises:
        ThalwegError: there is none, it is of another run's stimuli, or trials are asked for beside it.
    """
    if about:
        option = f"--{next(iter(about)).replace('_', '-')}"
        raise ThalwegError(f"a study says which units and trials are asked about; leave out --study or {option}")
    study = open_study(name)
    known = run.record["ladders"].get(study.run["ladder"])
    if known is None or known["data_hash"] != study.run["data_hash"]:
        raise ThalwegError(f"study {study.name!r} is not of this run: it was made of {study.run['path']}")
    return study


def _in_study(models: Sequence[RecordedModel], study: Study) -> list[RecordedModel]:
    """The models that a study asks about.

    Raises:
        ThalwegError: there are none.
    """
    found = [model for model in models if not _of_study(model, study).is_empty()]
    if not found:
        raise ThalwegError(f"study {study.name!r} asks about none of these models; leave out --rung, --seed, --control")
    return found


def _of_study(model: RecordedModel, study: Study) -> pl.DataFrame:
    """The main trials of a study that are about a model."""
    key = {"ladder": model.ladder, "rung": model.rung, "seed": model.seed, "control": model.control}
    return study.trials.filter(kind="main", **key)


def _trials_of_study(model: RecordedModel, study: Study) -> list[Trial]:
    """The same trials, made again from the model's recordings.

    Raises:
        ThalwegError: the model's trials are others now.
    """
    rows = _of_study(model, study)
    wanted = set(rows["trial"])
    found: list[Trial] = []
    design = study.design
    for (layer,), of_layer in rows.sort("layer", maintain_order=True).group_by("layer", maintain_order=True):
        numbers = of_layer["unit"].unique(maintain_order=True).to_list()
        settings = TrialSettings(str(layer), numbers, per_unit=design.per_unit, matched=design.matched)
        found += [trial for trial in trials_of(model, settings) if trial.id in wanted]
    if len(found) < len(wanted):
        raise ThalwegError(
            f"study {study.name!r}: of its {len(wanted)} trials about rung {model.rung!r} the run still makes "
            f"{len(found)}; the run was made again since, so make the study again too"
        )
    return found


@dataclass
class Session:
    """One call of `ask`: a model, a run, and what of it is asked about."""

    run: Run
    client: Model
    settings: AskSettings
    trials: TrialSettings
    models: list[RecordedModel]
    agree: Callable[[Plan], bool]
    progress: Progress
    study: Study | None = None
    answered: int = 0
    in_a_row: int = 0
    first_failure: str = ""
    spending: Spending = field(default_factory=lambda: Spending(None, None))

    @property
    def directory(self) -> RunDirectory:
        """The run's directory."""
        return RunDirectory(self.run.path)

    def trials_about(self, model: RecordedModel) -> list[Trial]:
        """The two-alternative trials about a model."""
        return _trials_of_study(model, self.study) if self.study else list(trials_of(model, self.trials))

    def run_all(self) -> Asked:
        """Ask all that is not answered yet; the run is locked meanwhile."""
        budget = self.settings.budget
        self.spending = Spending(self.settings.prices, None if budget is None else float(budget))
        self.directory.remove_partials()
        material = Material.of(self)
        asked.put_asked_together(self.directory)
        first = self._new(material.explaining()) if material.by_own_sentence else []
        with self.progress.stage("questions", len(material.forms)) as advance:
            rest = [*material.questions(self.run, plan=True, made=advance)]
        open_ = [*first, *self._new(each for each in rest if each.form != EXPLANATION)]
        count = len([*material.explaining(), *rest] if material.by_own_sentence else rest)
        if not count:
            raise ThalwegError("there is nothing to ask about: none of these units makes a question of these forms")
        unanswered = 0
        if open_:
            plan = self._plan(open_, count - len(open_))
            unanswered = self._send(material, first, open_, plan)
        table = asked.put_asked_together(self.directory)
        if self.first_failure:
            self.progress.say(f"some requests got no answer ({self.first_failure}); the same command asks them again")
        own = self.run.without_stale(table.filter(model=self.client.name, version=prompts.VERSION))
        spent = self.spending.spent if self.settings.prices else None
        return Asked(self.run, self.client.name, model_scores(own), unit_scores(own), self.answered, unanswered, spent)

    def _new(self, questions: Iterable[Question]) -> list[Question]:
        """Those questions that are not answered yet; with `retry`, also those whose reply was no answer."""
        own = asked.read_asked(self.run.path).filter(model=self.client.name)
        done = set((own.filter(note="") if self.settings.retry else own)["question"])
        return [question for question in questions if question.id not in done]

    def _plan(self, questions: Sequence[Question], done: int) -> Plan:
        """What is about to be sent, checked as far as that costs nothing."""
        forms: dict[str, list[Question]] = {}
        for question in questions:
            forms.setdefault(question.form, []).append(question)
        most = self.client.most if isinstance(self.client, Endpoint) else lambda each: REPLY_TOKENS.get(each.reply, 0)
        plans: list[Planned] = [planned(form, each, most) for form, each in forms.items()]
        where = self.client.url if isinstance(self.client, Endpoint) else ""
        return Plan(self.client.name, where, tuple(plans), done, self.settings.prices)

    def _send(self, material: "Material", first: list[Question], open_: list[Question], plan: Plan) -> int:
        """Check, ask the user, and then the model; returns how many questions were not asked."""
        longest = _longest(open_)
        if isinstance(self.client, LocalModel):
            self.client.check(longest)
        elif isinstance(self.client, Endpoint):
            run_to_end(_check(self.client, longest))
        if not self.agree(plan):
            return len(open_)
        left: int = run_to_end(self._ask_all(material, first, open_))
        return left

    async def _ask_all(self, material: "Material", first: list[Question], open_: list[Question]) -> int:
        """Ask the explanations first, and then what goes by them."""
        try:
            if isinstance(self.client, Endpoint):
                pictures = material.kind == "image"
                await self.client.rehearse(picture=pictures, logprobs=any(each.form == SIMULATION for each in open_))
            with self.progress.stage("ask", len(open_)) as advance:
                left = await self._ask(first, advance)
                if material.by_own_sentence:
                    asked.put_asked_together(self.directory)
                    open_ = [*first, *self._new(material.questions(self.run, plan=False))]
                left += await self._ask([each for each in open_ if each not in first], advance)
            return left
        finally:
            if isinstance(self.client, Endpoint):
                await self.client.close()

    async def _ask(self, questions: Sequence[Question], advance: Callable[[], None]) -> int:
        """Ask so many questions at once; returns how many the budget left unasked."""
        waiting: Iterator[Question] = iter(questions)
        before = self.answered

        async def work() -> None:
            for question in waiting:
                if self.spending.ended:
                    return
                await self._ask_one(question)
                advance()

        async with asyncio.TaskGroup() as group:
            at_once = 1 if isinstance(self.client, LocalModel) else self.settings.parallel
            for _ in range(min(at_once, len(questions))):
                group.create_task(work())
        return len(questions) - (self.answered - before)

    async def _ask_one(self, question: Question) -> None:
        """Ask one question, and keep the reply at once."""
        most = self.client.most(question) if isinstance(self.client, Endpoint) else 0
        reserved = self.spending.reserve(question, most)
        if reserved is None:
            return
        start = time.perf_counter()
        try:
            reply = await self.client.reply(question)
        except RequestFailed as wrong:
            self.spending.reserved -= reserved
            self._failed(str(wrong))
            return
        self.spending.settle(reserved, reply.prompt_tokens, reply.reply_tokens)
        answer = read_reply(question, reply)
        seconds = time.perf_counter() - start
        row = asked.row_of(question, self.client.name, reply, answer, seconds, self._observer(question))
        asked.keep_reply(self.directory, row)
        self.answered, self.in_a_row = self.answered + 1, 0

    def _failed(self, why: str) -> None:
        self.first_failure = self.first_failure or why
        self.in_a_row += 1
        if self.in_a_row >= MOST_FAILURES:
            raise ThalwegError(
                f"{self.client.name}: {MOST_FAILURES} requests in a row got no answer ({why}); what is answered is "
                "kept, and the same command goes on from there"
            )

    def _observer(self, question: Question) -> str:
        """What the table of answers calls the model."""
        count = self.settings.references
        if question.form in BY_SENTENCE:
            explainer = self.settings.explainer or self.client.name
            whose = "its own" if explainer == self.client.name else explainer
            return f"ask:{self.client.name}, by a sentence ({whose})"
        return f"ask:{self.client.name}" + (f" ({count} references)" if count != REFERENCES else "")


@dataclass(frozen=True, eq=False)
class Material:
    """The units that are asked about, with their trials and stimuli."""

    session: Session
    kind: str
    trials: tuple[Trial, ...]
    units: tuple[UnitStimuli, ...]
    pools: Mapping[str, Stimuli]
    along: Along | None

    @property
    def forms(self) -> list[str]:
        """The forms that are asked for beside explanations."""
        return [form for form in self.session.settings.form if form != EXPLANATION]

    @property
    def by_own_sentence(self) -> bool:
        """Whether explanations are asked for: as such, or because other forms go by the model's own."""
        settings = self.session.settings
        own = settings.explainer in ("", self.session.client.name)
        return EXPLANATION in settings.form or (own and any(form in NEEDS_SENTENCE for form in settings.form))

    @classmethod
    def of(cls, session: Session) -> "Material":
        """The units of a session's models.

        Raises:
            ThalwegError: there is no such unit, or their stimuli fit no form that is asked for.
        """
        run, settings = session.run, session.settings
        pools = {model.ladder: run.stimuli(model.ladder) for model in session.models}
        kinds = {modalities.of(pool).name for pool in pools.values()}
        kind = kinds.pop() if len(kinds) == 1 else ""
        kind = kind if kind in ("text", "image") else ""
        if kind != "text" and (tokens := [form for form in settings.form if form in NEEDS_TOKENS]):
            raise ThalwegError(
                f"the form {tokens[0]} is about the tokens of texts, and these ladders have none; leave it out"
            )
        if session.trials.layers and not any(
            layer in model.recordings.layers for model in session.models for layer in session.trials.layers
        ):
            check_settings(session.models[0], session.trials)
        trials: list[Trial] = []
        units: list[UnitStimuli] = []
        _check_shown(pools)
        with session.progress.stage("trials", len(session.models)) as advance:
            for model in session.models:
                own = session.trials_about(model)
                trials += own
                for layer, unit in dict.fromkeys((trial.layer, trial.unit) for trial in own):
                    if made := _unit(model, layer, unit):
                        units.append(made)
                advance()
        along = _along_of(run, session.models) if any(form in NEEDS_TOKENS for form in settings.form) else None
        return cls(session, kind, tuple(trials), tuple(units), pools, along)

    def asking(self, ladder: str, sentences: Mapping[Unit, str] | None = None) -> Asking:
        """What the questions about a ladder share."""
        references = self.session.settings.references
        return Asking(self.pools[ladder], self.kind, references, self.along, sentences)

    def explaining(self) -> list[Question]:
        """The questions for explanations."""
        found: list[Question] = []
        for unit in self.units:
            found += questions_of(unit, EXPLANATION, self.asking(unit.about.ladder))
        return found

    def questions(self, run: Run, *, plan: bool, made: Callable[[], None] = lambda: None) -> Iterator[Question]:
        """The questions of all forms but explanations. Where they are counted before explanations are there (`plan`), a
        text of usual length stands for these. `made` is called when those of a form are.

        Raises:
            ThalwegError: no unit has an explanation by the explainer that is named.
        """
        needed = any(form in NEEDS_SENTENCE for form in self.forms)
        sentences = self._sentences(run, plan=plan) if needed else {}
        for form in self.forms:
            yield from self._of_form(form, sentences)
            made()

    def _of_form(self, form: str, sentences: Mapping[Unit, str]) -> Iterator[Question]:
        if form in (TWO, "2afc-explained"):
            for trial in self.trials:
                about = Unit(trial.ladder, trial.rung, trial.seed, trial.control, trial.layer, trial.unit)
                sentence = sentences.get(about, "") if form in NEEDS_SENTENCE else ""
                if sentence or form == TWO:
                    yield two_alternative(trial, self.asking(trial.ladder), sentence=sentence)
            return
        for unit in self.units:
            if form not in NEEDS_SENTENCE or unit.about in sentences:
                yield from questions_of(unit, form, self.asking(unit.about.ladder, sentences))

    def _sentences(self, run: Run, *, plan: bool) -> dict[Unit, str]:
        explainer = self.session.settings.explainer or self.session.client.name
        rows = run.explanations.filter(explainer=explainer).sort("version").to_dicts()
        found = {Unit(**{name: row[name] for name in UNIT}): str(row["explanation"]) for row in rows}
        known = {unit.about: found[unit.about] for unit in self.units if unit.about in found}
        if self.by_own_sentence and explainer == self.session.client.name:
            return {**dict.fromkeys((unit.about for unit in self.units), UNKNOWN_SENTENCE), **known} if plan else known
        if not known:
            raise ThalwegError(
                f"{readable(run.path)}: no unit that is asked about has an explanation by {explainer!r}; import them "
                "with thalweg explanations, or leave out --explainer to have the model write its own"
            )
        return known


def _unit(model: RecordedModel, layer: str, unit: int) -> UnitStimuli | None:
    """The stimuli of a unit of a model."""
    recorded = model.recordings.layers[layer]
    at = recorded.reference.unit_ids.tolist().index(unit)
    halves = (half.units(slice(at, at + 1)) for half in recorded)
    about = Unit(model.ladder, model.rung, model.seed, model.control, layer, unit, model.identity)
    return unit_stimuli(about, model.unit_identity(layer, unit), model.recordings.reductions[layer], *halves)


def _along_of(run: Run, models: Sequence[RecordedModel]) -> Along:
    """The values of units at tokens, each computed once; the models are made again when they are first needed."""
    made = {(model.ladder, model.rung, model.seed, model.control): model_along(run, model) for model in models}
    kept: dict[tuple[Unit, int], list[float]] = {}

    def along(unit: Unit, stimuli: Sequence[int]) -> list[list[float]]:
        if new := [stimulus for stimulus in dict.fromkeys(stimuli) if (unit, stimulus) not in kept]:
            values = made[unit.ladder, unit.rung, unit.seed, unit.control](unit.layer, unit.unit, new)
            kept.update({(unit, stimulus): along for stimulus, along in zip(new, values, strict=True)})
        return [kept[unit, stimulus] for stimulus in stimuli]

    return along


def _check_shown(pools: Mapping[str, Stimuli]) -> None:
    """Check that stimuli can be shown in a prompt.

    Raises:
        ThalwegError: they are shown as HTML alone.
    """
    for ladder, pool in pools.items():
        shown = pool.show(0)
        if not shown.png and not shown.pieces:
            raise ThalwegError(
                f"ladder {ladder!r}: its stimuli are shown as HTML, which no prompt can hold; a Shown with a picture "
                "(png) or with text (pieces) was expected"
            )


async def _check(endpoint: Endpoint, longest: Sequence[Question]) -> None:
    try:
        await endpoint.check(longest)
    finally:
        await endpoint.close()


def _longest(questions: Sequence[Question]) -> list[Question]:
    """A long question of each form: the longest of a sample."""
    forms: dict[str, list[Question]] = {}
    for question in questions:
        forms.setdefault(question.form, []).append(question)
    return [max(each[:: max(1, len(each) // 10)], key=_size) for each in forms.values()]


def _size(question: Question) -> int:
    return sum(len(part) for part in question.build() if isinstance(part, str))


def run_to_end(work: Any) -> Any:
    """Run a coroutine to its end, also where an event loop is at work already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_run, work).result()


def _run(work: Any) -> Any:
    """Run a coroutine; of the errors of a group of tasks, the first is raised alone."""
    try:
        return asyncio.run(work)
    except BaseExceptionGroup as group:
        wrong: BaseException = group
        while isinstance(wrong, BaseExceptionGroup):
            wrong = wrong.exceptions[0]
        raise wrong from None
