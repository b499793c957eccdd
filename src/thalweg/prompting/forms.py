"""The forms in which a unit is asked about, and the stimuli that each is made of.

References come from the reference half of the pool and everything that is asked about from the query half: no stimulus
(and of text no document) is in both, so an explanation is never tested on what it was written from. In all forms but
the two-alternative trial, which is the run's own, what drives a unit is its highest stimuli, and what does not is
typical ones, near its median.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from thalweg.files.identity import digest
from thalweg.prompting import prompts
from thalweg.prompting.questions import LETTER, LIST, NUMBERS, SENTENCE, Picture, Prompt, Question, Unit
from thalweg.recording.result import Recording
from thalweg.stimuli.base import Stimuli
from thalweg.trials.building import REFERENCES
from thalweg.trials.items import Trial
from thalweg.trials.one_sided import build_one_sided, driving

TWO, DETECTION, FUZZING, INTRUDER, SIMULATION, EXPLANATION = (
    *("2afc", "detection", "fuzzing", "intruder"),
    *("simulation", "explanation"),
)
BY_SENTENCE = {"2afc-explained": TWO, "detection-explained": DETECTION}  # without references: by a sentence alone
FORMS = (TWO, DETECTION, FUZZING, INTRUDER, EXPLANATION, *BY_SENTENCE, SIMULATION)
NEEDS_SENTENCE = (*BY_SENTENCE, SIMULATION)
NEEDS_TOKENS = (FUZZING, SIMULATION)
CHANCE = {**dict.fromkeys(FORMS, 0.5), INTRUDER: 0.2, SIMULATION: 0.0, EXPLANATION: float("nan")}
ASKED = 10  # stimuli in a question that asks for a list
ODD = 5  # stimuli among which one does not belong
MOST_QUERIES = 40  # new stimuli of a unit on either side
MARKED_FROM = 0.3  # of the way from the unit's median to the text's highest value
QUESTIONS = {DETECTION: 2, FUZZING: 2, INTRUDER: 6, SIMULATION: 6}  # of a unit at most; a trial's number is the user's

Along = Callable[[Unit, Sequence[int]], list[list[float]]]  # a unit's values at the tokens of some stimuli


@dataclass(frozen=True, eq=False)
class UnitStimuli:
    """A unit, and the stimuli that its questions are made of: ids, the most extreme first."""

    about: Unit
    identity: str  # a hash of what the unit is
    reduction: str
    strong: tuple[int, ...]  # references that drive it
    typical: tuple[int, ...]  # references to which it hardly responds
    driving: tuple[int, ...]  # new ones that drive it
    resting: tuple[int, ...]  # new ones to which it hardly responds
    median: float


@dataclass(frozen=True, eq=False)
class Asking:
    """What all questions of a run share."""

    pool: Stimuli
    kind: str  # text, image, or empty for others
    references: int = REFERENCES  # shown of each kind
    along: Along | None = None
    sentences: Mapping[Unit, str] | None = None  # explanations

    def show(self, stimulus: int) -> str | Picture:
        """A stimulus as a prompt holds it."""
        shown = self.pool.show(stimulus)
        return Picture(shown.png) if shown.png else "".join(shown.pieces)

    def all(self, stimuli: Sequence[int]) -> list[str | Picture]:
        """Several of them."""
        return [self.show(each) for each in stimuli]


def unit_stimuli(
    about: Unit, identity: str, reduction: str, reference: Recording, query: Recording
) -> UnitStimuli | None:
    """The stimuli of a unit, from its recordings alone; None for a unit that makes no question."""
    upper = torch.ones(1, dtype=torch.bool)
    trials = build_one_sided(reference, query, upper)
    if not bool(trials.alive[0]):
        return None
    new = _ids(driving(query, upper, count=MOST_QUERIES)[0])
    resting = [_ids(queries.low[0]) for queries in trials.queries.values()]
    order = [each for row in zip(*resting, strict=False) for each in row if each not in new]
    return UnitStimuli(
        about,
        identity,
        reduction,
        strong=_ids(driving(reference, upper, count=REFERENCES)[0]),
        typical=_ids(trials.low[0, :REFERENCES]),
        driving=new,
        resting=tuple(dict.fromkeys(order)),
        median=float(reference.sample.median(0).values[0]),
    )


def _ids(ids: torch.Tensor) -> tuple[int, ...]:
    return tuple(each for each in ids.tolist() if each >= 0)


def two_alternative(trial: Trial, asking: Asking, *, sentence: str = "") -> Question:
    """A run's own trial as a question, with its references or with a sentence in their place."""
    about = Unit(trial.ladder, trial.rung, trial.seed, trial.control, trial.layer, trial.unit, trial.made_from)
    count = asking.references
    high, low = trial.high_references[:count], trial.low_references[:count]
    form = "2afc-explained" if sentence else TWO
    identity = (trial.id,) if count == REFERENCES or sentence else (trial.id, count)

    def build() -> Prompt:
        context = prompts.explanation(sentence)
        if not sentence:
            context = prompts.references(asking.all(high), asking.all(low), asking.kind, lowest=True)
        opening = prompts.opening(asking.kind, trial.reduction)
        return (opening, *prompts.two(context, asking.all(trial.queries), asking.kind))

    return Question(
        id=digest(form, prompts.VERSION, *identity, sentence),
        form=form,
        about=about,
        band=trial.band,
        shown=(() if sentence else (*high, *low)) + trial.queries,
        queries=trial.queries,
        right=(trial.correct,),
        reply=LETTER,
        build=build,
        trial=trial.id,
    )


def questions_of(unit: UnitStimuli, form: str, asking: Asking) -> Iterator[Question]:
    """The questions of a form about a unit, but for the run's own trials."""
    sentence = (asking.sentences or {}).get(unit.about, "")
    if form == EXPLANATION:
        yield _explanation(unit, asking)
    elif form == DETECTION:
        yield from _detection(unit, asking, "")
    elif form == "detection-explained":
        yield from _detection(unit, asking, sentence)
    elif form == FUZZING:
        yield from _fuzzing(unit, asking)
    elif form == INTRUDER:
        yield from _intruder(unit, asking)
    elif form == SIMULATION:
        yield from _simulation(unit, asking, sentence)


def _question(unit: UnitStimuli, form: str, *identity: object, **parts: Any) -> Question:
    return Question(
        id=digest(form, prompts.VERSION, unit.identity, *identity), form=form, about=unit.about, band="", **parts
    )


def _context(unit: UnitStimuli, asking: Asking, *, marked: bool = False) -> Prompt:
    count, opening = asking.references, prompts.opening(asking.kind, unit.reduction)
    strong, typical = unit.strong[:count], () if marked else unit.typical[:count]
    high: Sequence[str | Picture] = asking.all(strong)
    if marked:
        high = [prompts.marked(*_marks(unit, asking, each)) for each in strong]
    return (opening, *prompts.references(high, asking.all(typical), asking.kind, lowest=False, marked=marked))


def _by_sentence(unit: UnitStimuli, asking: Asking, sentence: str) -> Prompt:
    return (prompts.opening(asking.kind, unit.reduction), *prompts.explanation(sentence))


def _explanation(unit: UnitStimuli, asking: Asking) -> Question:
    """What is the unit about, in a sentence?"""
    strong, typical = unit.strong[: asking.references], unit.typical[: asking.references]
    return _question(
        *(unit, EXPLANATION, strong, typical),
        shown=strong + typical,
        queries=(),
        right=(),
        reply=SENTENCE,
        build=lambda: prompts.sentence(_context(unit, asking), asking.kind),
    )


def _detection(unit: UnitStimuli, asking: Asking, sentence: str) -> Iterator[Question]:
    """Which of these ten drive the unit? Half of them do."""
    half, form = ASKED // 2, "detection-explained" if sentence else DETECTION
    references = () if sentence else unit.strong[: asking.references] + unit.typical[: asking.references]
    for number in range(QUESTIONS[DETECTION]):
        high, low = (ids[number * half : (number + 1) * half] for ids in (unit.driving, unit.resting))
        if min(len(high), len(low)) < half:
            return
        queries, order = _shuffled((*high, *low), unit.identity, form, number)

        def build(queries: Sequence[int] = queries) -> Prompt:
            context = _by_sentence(unit, asking, sentence) if sentence else _context(unit, asking)
            return prompts.several(context, asking.all(queries), asking.kind, fuzzed=False)

        yield _question(
            *(unit, form, references, queries, sentence),
            shown=references + queries,
            queries=queries,
            right=tuple(place for place, was in enumerate(order) if was < half),
            reply=LIST,
            build=build,
        )


def _fuzzing(unit: UnitStimuli, asking: Asking) -> Iterator[Question]:
    """In which of ten driving texts are the right words marked? In half; in the others as many other words are."""
    half, references = ASKED // 2, unit.strong[: asking.references]
    assert asking.along is not None
    asking.along(unit.about, [*references, *unit.driving])  # all at once, to be kept
    usable = [each for each in unit.driving if _other_marks(*_marks(unit, asking, each), unit.identity, each)]
    for number in range(QUESTIONS[FUZZING]):
        chosen = usable[number * ASKED : (number + 1) * ASKED]
        if len(chosen) < ASKED:
            return
        queries, order = _shuffled(tuple(chosen), unit.identity, FUZZING, number)
        right = tuple(place for place, was in enumerate(order) if was % 2 == 0)

        def build(queries: Sequence[int] = queries, right: Sequence[int] = right) -> Prompt:
            texts = []
            for place, each in enumerate(queries):
                pieces, marks = _marks(unit, asking, each)
                wrong = _other_marks(pieces, marks, unit.identity, each)
                texts.append(prompts.marked(pieces, marks if place in right else wrong))
            return prompts.several(_context(unit, asking, marked=True), texts, asking.kind, fuzzed=True)

        assert len(right) == half
        yield _question(
            *(unit, FUZZING, references, queries),
            shown=references + queries,
            queries=queries,
            right=right,
            reply=LIST,
            build=build,
        )


def _marks(unit: UnitStimuli, asking: Asking, stimulus: int) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """The tokens of a text, and which of them the unit responds to."""
    assert asking.along is not None
    (values,) = asking.along(unit.about, [stimulus])
    pieces = asking.pool.show(stimulus).pieces
    threshold = unit.median + MARKED_FROM * (max(values) - unit.median)
    return pieces, tuple(value >= threshold and value > unit.median for value in values)


def _other_marks(pieces: Sequence[str], marks: Sequence[bool], identity: str, stimulus: int) -> tuple[bool, ...]:
    """As many other tokens marked, at random; nothing where there are too few others."""
    others = [place for place, mark in enumerate(marks) if not mark and pieces[place].strip()]
    count = sum(marks)
    if not count or len(others) < count:
        return ()
    chosen = set(_generator(identity, "marks", stimulus).permutation(others)[:count].tolist())
    return tuple(place in chosen for place in range(len(marks)))


def _intruder(unit: UnitStimuli, asking: Asking) -> Iterator[Question]:
    """Which of these five does not belong? Four drive the unit, one does not."""
    for number in range(QUESTIONS[INTRUDER]):
        four = unit.driving[number * (ODD - 1) : (number + 1) * (ODD - 1)]
        odd = unit.resting[number : number + 1]
        if len(four) < ODD - 1 or not odd:
            return
        queries, order = _shuffled((*four, *odd), unit.identity, INTRUDER, number)

        def build(queries: Sequence[int] = queries) -> Prompt:
            opening = prompts.opening(asking.kind, unit.reduction)
            return (opening, *prompts.odd_one_out(asking.all(queries), asking.kind))

        yield _question(
            *(unit, INTRUDER, queries),
            shown=queries,
            queries=queries,
            right=(order.index(ODD - 1),),
            reply=LETTER,
            build=build,
        )


def _simulation(unit: UnitStimuli, asking: Asking, sentence: str) -> Iterator[Question]:
    """How strongly does the unit respond at each token? Of texts that drive it and of typical ones, by turns."""
    assert asking.along is not None
    half = QUESTIONS[SIMULATION] // 2
    chosen = [each for pair in zip(unit.driving[:half], unit.resting[:half], strict=False) for each in pair]
    for stimulus in chosen:
        pieces = asking.pool.show(stimulus).pieces
        (values,) = asking.along(unit.about, [stimulus])
        yield _question(
            *(unit, SIMULATION, stimulus, sentence),
            shown=(stimulus,),
            queries=(stimulus,),
            right=(),
            reply=NUMBERS,
            build=partial(_simulated, unit, asking, sentence, pieces),
            truth=tuple(values),
            pieces=pieces,
        )


def _simulated(unit: UnitStimuli, asking: Asking, sentence: str, pieces: Sequence[str]) -> Prompt:
    return prompts.simulation(_by_sentence(unit, asking, sentence), pieces)


def _shuffled(ids: tuple[int, ...], *seed: object) -> tuple[tuple[int, ...], list[int]]:
    """The ids in a random order, and for each place where its id was."""
    order = _generator(*seed).permutation(len(ids)).tolist()
    return tuple(ids[was] for was in order), order


def _generator(*seed: object) -> np.random.Generator:
    return np.random.default_rng(int(digest("order", *seed), 16))
