"""What the observers of text can see: planted units, whose truth is known, and trained units beside untrained ones.

`python -m benchmarks.text_observers [--seeds 11 12 13] [--each 40] [--out docs/measures/text-observers.md]` plants
units on the windows of the embedded text, asks every observer of text about them and writes the scores. Each seed deals
out the documents anew, so its vocabulary, its windows and its topics are others.
"""

import argparse
import copy
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from thalweg.ladders import words
from thalweg.measures.base import MEAN
from thalweg.measures.two_choice import matched, two_choice, two_choice_matched
from thalweg.measures.two_choice_single import two_choice_single
from thalweg.models.records import Rung
from thalweg.observers.answers import answer, answer_by_features
from thalweg.observers.base import OBSERVERS, extract_features
from thalweg.observers.embedding import ObserverView, build_view, centred
from thalweg.observers.texts import about, counts, endings
from thalweg.recording.keys import Scramble
from thalweg.recording.record import record
from thalweg.recording.recorder import Recorder
from thalweg.recording.result import Recording, concat_units
from thalweg.stimuli.base import Source, Splits, halves
from thalweg.stimuli.corpus import splits
from thalweg.stimuli.windows import Windows
from thalweg.trials.building import build_trials, matched_pairs

NAMES = ("text", "sentence", "recent", "suffix", "tokens", "topics", "bag", "trivial", "random")
KINDS = {
    "token": "the last token is t",
    "bigram": "the last two tokens are s, t",
    "place": "the fourth token from the end is t",
    "anywhere": "token t stands anywhere in the window",
    "any of 20": "the last token is one of twenty",
    "topic": "how much of the rest of the window's document belongs to a topic",
    "documents": "the window's document is one of those that belong most to a topic",
    "noise": "nothing",
}
ENOUGH = 24  # windows that a planted token stands in: twelve a half, so nine references and nine queries
TWENTY = 20
SHARE = 0.08  # of windows, that the documents of a topic hold
PROTOTYPE = {"token": 1.00, "topic": 0.86, "any of 20": 0.66, "noise": 0.52}  # `text`, in a prototype on another pool
PROTOTYPE_ABOVE = 0.89  # the share of trained units above their untrained twins, same origin
TRAINED, UNTRAINED = "trained", "untrained"
K, SAMPLE = 64, 512  # a survey's
BLIND = 0.65  # a mean score below this finds little
BANDS = ("extreme", "v90", "v75")


def graded(fires: Tensor, generator: torch.Generator) -> Tensor:
    """Values (stimulus, unit): 0 or, where a unit fires, between 0.4 and 1.4, plus noise of 0.1."""
    strength = 0.4 + torch.rand(fires.shape, generator=generator)
    return fires * strength + 0.1 * torch.randn(fires.shape, generator=generator)


def drawn(candidates: Tensor, each: int, generator: torch.Generator) -> Tensor:
    """At most so many of the rows, at random."""
    return candidates[torch.randperm(len(candidates), generator=generator)[:each]]


def topics_of_documents(pool: Windows) -> Tensor:
    """How much of the rest of each window's document belongs to each topic (stimulus, topic); about 1 at most."""
    mixtures = about(pool)
    _, document, size = pool.documents.unique(return_inverse=True, return_counts=True)
    whole = torch.zeros(len(size), mixtures.shape[1]).index_add_(0, document, mixtures)
    rest = (whole[document] - mixtures) / (size[document] - 1).clamp_min(1)[:, None]
    return rest / rest.quantile(0.99, 0).clamp_min(1e-9)


def planted(pool: Windows, *, each: int, seed: int) -> dict[str, Tensor]:
    """Values (stimulus, unit) of at most so many units of each kind."""
    generator = torch.Generator().manual_seed(seed)
    last, before, fourth = endings(pool).T[[0, 1, 3]]
    often, seldom = ((last.bincount() >= least).nonzero().flatten() for least in (ENOUGH, ENOUGH // 4))
    pairs, times = torch.stack([before, last], 1).unique(dim=0, return_counts=True)
    present = torch.from_numpy(counts(pool).toarray()) > 0
    share = present.float().mean(0)
    somewhere = ((share >= 0.02) & (share <= 0.3)).nonzero().flatten()
    topics = drawn(topics_of_documents(pool).T, each, generator).T
    token = drawn(often, each, generator)
    bigram = drawn(pairs[times >= ENOUGH // 2], each, generator)
    drawn_tokens = drawn((fourth.bincount() >= ENOUGH).nonzero().flatten(), each, generator)
    fires = {
        "token": last[:, None] == token,
        "bigram": (before[:, None] == bigram[:, 0]) & (last[:, None] == bigram[:, 1]),
        "place": fourth[:, None] == drawn_tokens,
        "anywhere": present[:, drawn(somewhere, each, generator)],
        "any of 20": torch.stack([torch.isin(last, drawn(seldom, TWENTY, generator)) for _ in range(each)], 1),
        "documents": topics >= topics.quantile(1 - SHARE, 0),
    }
    values = {kind: graded(results.float(), generator) for kind, results in fires.items()}
    values["topic"] = topics + 0.1 * torch.randn(topics.shape, generator=generator)
    values["noise"] = torch.randn(len(pool), each, generator=generator)
    return {kind: values[kind] for kind in KINDS}


def recorded(values: Tensor, ids: Tensor, statistics: Tensor) -> Recording:
    """The recording of planted units over the stimuli with these ids."""
    recorder = Recorder(k=K, sample=SAMPLE, scramble=Scramble.seeded(0), statistics={"trivial": statistics})
    for batch in ids.split(250):
        recorder.update(values[batch], batch)
    return recorder.compute()


def views(pool: Windows, names: Sequence[str] = NAMES) -> tuple[dict[str, ObserverView], dict[str, float]]:
    """What each observer sees of the pool, and the processor seconds that each took."""
    parts = dict.fromkeys(part for name in names for part in OBSERVERS[name].parts or (name,))
    seen, seconds = {}, {}
    for part in parts:
        start = time.process_time()
        seen[part] = extract_features(OBSERVERS[part], pool)
        seconds[part] = time.process_time() - start
    return {name: build_view(OBSERVERS[name], seen, pool) for name in names}, seconds


def scores(
    reference: Recording, query: Recording, view: ObserverView, statistics: Tensor, ids: Tensor
) -> dict[str, Tensor]:
    """Each unit's score, by measure (and band)."""
    trials = build_trials(reference, query)
    pairs = matched_pairs(trials, reference, statistics, ids)
    plain = two_choice(evidence=answer(trials, view.embedding))
    by_capacity = answer_by_features(trials, view.dictionary, (1, None))
    return {
        **{band: plain[band, ""].value for band in BANDS},
        "plain": plain[MEAN, ""].value,
        "matched": two_choice_matched(evidence=answer(trials, view.embedding), matched_pairs=pairs)[MEAN, ""].value,
        "single": two_choice_single(single=by_capacity[1], matched_pairs=pairs)[MEAN, "1"].value,
        "all": matched(by_capacity[None], pairs)[MEAN, ""].value,
    }


def on(pool: Windows, values: Tensor, seen: Mapping[str, ObserverView]) -> dict[str, dict[str, Tensor]]:
    """The scores of units with these values (stimulus, unit), by observer and measure."""
    statistics = pool.low_level()
    reference, query = halves(pool, seed=0)
    pair = [recorded(values, ids, statistics) for ids in (reference, query)]
    return {name: scores(*pair, view, statistics, reference) for name, view in seen.items()}


def rung() -> Rung:
    """The smallest transformer with neurons of the ladder of language models."""
    return next(entry for entry in words.ladder().rungs if entry.kind == "transformer")


def twins(
    parts: Splits, rung: Rung, seen: Mapping[str, ObserverView], *, seed: int
) -> dict[str, dict[str, dict[str, Tensor]]]:
    """The scores of a rung's trained units, and of the same units before training, by observer and measure."""
    torch.manual_seed(seed)
    untrained = rung.build()
    model = copy.deepcopy(untrained)
    assert rung.train is not None
    rung.train(model, parts, seed)
    statistics = {"trivial": parts.pool.low_level()}
    ids = halves(parts.pool, seed=0)

    def units(of: nn.Module, half: Tensor) -> Recording:
        return concat_units(list(record(of, rung.layers, parts.pool, half, statistics=statistics).values()))

    pairs = {TRAINED: [units(model, half) for half in ids], UNTRAINED: [units(untrained, half) for half in ids]}
    return {
        of: {name: scores(*pair, view, statistics["trivial"], ids[0]) for name, view in seen.items()}
        for of, pair in pairs.items()
    }


@dataclass(frozen=True)
class Estimate:
    """A mean with the half-width of its 95 % interval, and how many it is the mean of."""

    mean: float
    half: float
    n: int

    @classmethod
    def of(cls, values: Tensor) -> "Estimate":
        """Of the values that are there."""
        there = values[~values.isnan()]
        half = 1.96 * float(there.std()) / math.sqrt(len(there)) if len(there) > 1 else math.nan
        return cls(float(there.mean()), half, len(there))

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half:.2f}" if self.n else "none"


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    return [row(*head), row(*("---" for _ in head)), *(row(*cells) for cells in rows), ""]


Scores = Mapping[str, Mapping[str, Tensor]]  # of units, by observer and measure


@dataclass(frozen=True, eq=False)
class Results:
    """What the page tells."""

    seeds: Sequence[int]
    windows: Sequence[int]
    planted: Mapping[str, Scores]  # by kind
    twins: Mapping[str, Scores]  # of trained and of untrained units
    seconds: Mapping[str, float]  # by observer without parts
    sizes: Mapping[str, tuple[int, int]]  # of embedding and dictionary
    kernel: tuple[float, float]


def together(many: Sequence[Mapping[str, Scores]]) -> dict[str, Scores]:
    """The scores of several seeds, one after the other."""
    first = many[0]
    return {
        kind: {
            name: {m: torch.cat([entry[kind][name][m] for entry in many]) for m in first[kind][name]} for name in NAMES
        }
        for kind in first
    }


def kernel(pool: Windows) -> tuple[float, float]:
    """The correlation of the similarities of `suffix`, and of the same centred, with the kernel counted by hand, over
    random pairs.
    """
    left, right = torch.randint(len(pool), (2, 200_000), generator=torch.Generator().manual_seed(0))
    left, right = left[left != right], right[left != right]
    last = endings(pool)
    exact = ((last[left] == last[right]) * 0.5 ** torch.arange(last.shape[1])).sum(1)
    vectors = extract_features(OBSERVERS["suffix"], pool)["features"]
    plain, scaled = ((entry[left] * entry[right]).sum(1) for entry in (vectors, centred(vectors)))
    correlations = torch.corrcoef(torch.stack([exact, plain, scaled]))[0]
    return float(correlations[1]), float(correlations[2])


def measured(seeds: Sequence[int], *, each: int) -> Results:
    by_kind, by_twin, windows = [], [], []
    for seed in seeds:
        parts = splits(Source(), seed)
        pool = parts.pool
        seen, seconds = views(pool)
        units = planted(pool, each=each, seed=seed)
        by_kind.append({kind: on(pool, values, seen) for kind, values in units.items()})
        by_twin.append(twins(parts, rung(), seen, seed=seed))
        windows.append(len(pool))
        print(f"seed {seed} is done", flush=True)
    sizes = {name: (view.embedding.shape[1], view.dictionary.shape[1]) for name, view in seen.items()}
    return Results(seeds, windows, together(by_kind), together(by_twin), seconds, sizes, kernel(pool))


def coverage(values: Tensor) -> str:
    """The share of units that could be measured."""
    return f"{float(values.isfinite().float().mean()):.2f}"


def planted_section(results: Results) -> list[str]:
    plain = {kind: {name: Estimate.of(by[name]["plain"]) for name in NAMES} for kind, by in results.planted.items()}
    lines = ["## Planted units", "", *table(["kind", "the unit fires where"], KINDS.items())]
    lines += [PLANTED, *table(["kind", "units", *NAMES], ([k, by["text"].n, *by.values()] for k, by in plain.items()))]
    names = {"extreme": "extreme", "v90": "v90", "v75": "v75", "plain": "two_choice", "matched": "two_choice_matched"}
    names |= {"single": "two_choice_single", "all": "all features"}
    rows = [
        [
            kind,
            *(Estimate.of(by["text"][m]) for m in names),
            f"{float(by['text']['single'].isfinite().float().mean()):.2f}",
        ]
        for kind, by in results.planted.items()
    ]
    lines += [BY_BAND, *table(["kind", *names.values(), "coverage"], rows)]
    rows = [[kind, f"{value:.2f}", plain[kind]["text"]] for kind, value in PROTOTYPE.items()]
    return [*lines, BESIDE, *table(["kind", "prototype", "here"], rows)]


def blind_section(results: Results) -> list[str]:
    rows = []
    for name in NAMES[:-1]:  # all but `random`, which sees nothing
        means = {kind: Estimate.of(by[name]["plain"]).mean for kind, by in results.planted.items() if kind != "noise"}
        rows.append([f"`{name}`", ", ".join(kind for kind, mean in means.items() if mean < BLIND) or "none of these"])
    return ["## Where each is blind", "", BLINDNESS.format(least=BLIND), *table(["observer", "blind to"], rows)]


def twins_section(results: Results) -> list[str]:
    after, before = results.twins[TRAINED], results.twins[UNTRAINED]
    rows = []
    for name in NAMES:
        cells = [f"`{name}`"]
        for m in ("plain", "matched"):
            above = ((after[name][m] - before[name][m]).sign() + 1) / 2
            cells += [
                Estimate.of(after[name][m]),
                Estimate.of(before[name][m]),
                Estimate.of(above),
                Estimate.of(above).n,
            ]
        rows.append(cells)
    head = ["observer", *(cell for m in ("two_choice", "matched") for cell in (m, "untrained", "above", "units"))]
    layers = ", ".join(f"`{layer.name}`" for layer in rung().layers)
    text = TWINS.format(rung=rung().name, layers=layers, prototype=PROTOTYPE_ABOVE)
    return ["## Trained and untrained units", "", text, *table(head, rows)]


def cost_section(results: Results) -> list[str]:
    seconds = {name: f"{results.seconds[name]:.1f}" if name in results.seconds else "its parts'" for name in NAMES}
    rows = [[f"`{name}`", seconds[name], *results.sizes[name]] for name in NAMES]
    head = ["observer", "processor seconds", "embedding", "dictionary"]
    return ["## Cost", "", COST.format(windows=results.windows[-1]), *table(head, rows), KERNEL.format(*results.kernel)]


INTRODUCTION = """# What the observers of text can see

Written by `python -m benchmarks.text_observers`. The stimuli are the pools of the embedded text for the seeds {seeds},
of {windows} windows of 24 tokens; each seed deals out the documents anew, so vocabulary, windows and topics are others.
Scores are means over units, with 95 % intervals from the units' scatter.
"""

PLANTED = """A unit that fires has a value between 0.4 and 1.4 at random, else 0; noise of 0.1 is added to all. `topic`
is graded by the document, plus the same noise; the topics are those of the training documents, and the window itself is
left out of its document. Planted tokens are those that stand at their place in at least 24 windows, pairs of tokens in
12; each of the twenty tokens ends at least 6. `two_choice`, the mean of `extreme`, `v90` and `v75`:
"""

BY_BAND = """The observer `text` in detail. `two_choice_single` may use one named feature, `all features` the whole
dictionary; these two and `two_choice_matched` are over the pairs that low-level statistics can't decide, and coverage
is the share of units that have enough of them and queries in both bands.
"""

BESIDE = """Beside a prototype's numbers for `text`, from another pool, with units whose definitions are known in words
only:
"""

BLINDNESS = """Kinds whose mean `two_choice` is below {least}. That is about comparing whole windows. With one named
feature `text` finds a token anywhere, since its dictionary has it, though the sum of similarities hides it; any of
twenty tokens is the reverse: comparing finds it in part, and no feature has that name. Which document a window comes
from, no observer here tells well: 24 tokens often don't say.
"""

TWINS = """The rung `{rung}` of the ladder `words`, one model a seed, its layers {layers}. `above` is the
share of units that score above the same unit before training, ties counting half; a prototype's share for `text` was
{prototype}. Units of one network are not independent, so these intervals are too narrow. An observer that can't tell
the two apart is a control.
"""

COST = """On one thread, for {windows} windows; and the numbers of features that comparing (embedding) and limited
capacity (dictionary) work with.
"""

KERNEL = """The similarity of `suffix` has a correlation of {:.3f} with the kernel counted by hand over random pairs of
windows (tokens that share dimensions make the difference), and {:.3f} once centred and scaled as it is used.
"""


def page(results: Results) -> str:
    seeds, windows = (", ".join(map(str, numbers)) for numbers in (results.seeds, results.windows))
    lines = [INTRODUCTION.format(seeds=seeds, windows=windows)]
    for section in (planted_section, blind_section, twins_section, cost_section):
        lines += section(results)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("docs/measures/text-observers.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.write_text(page(measured(options.seeds, each=options.each)), encoding="utf-8")


if __name__ == "__main__":
    main()
