"""Can a network be redirected from the goal that its prompt names to another one?

A network is trained to pursue one of several goals: which attribute of a thing it is to say, or at which sum it is to
arrive. Each case is asked under each goal. A goal's representation is the mean of a layer over the cases that are asked
under it, at one token. A network is redirected from goal g to goal h by adding the difference of the two means,
mean(h) - mean(g), to the layer at that token, of prompts that name g. Where it is added is chosen on some cases, the
means are taken over others, and what comes of it is measured on a third part.

| measure | asks |
|---|---|
| `redirected` | of prompts that name g: the answer is now the right one of the case for h |
| `reached` | of the same: it is an answer that h has for any case |
| `redirected_kept` | of prompts that name another goal, with the same vector added: the answer is what it was |

A network can be redirected only to what it knows. So cases count whose answers under g and h the network gives when it
is asked for them. The control, `shuffled`, adds differences of the same length between means over prompts that were
dealt out at random.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import permutations

import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from thalweg.edits.columns import GOALS_KNOWN, KEPT, REACHED, REDIRECT, REDIRECTED
from thalweg.edits.evaluation import FACTS_SCHEMA, SUMMARY_SCHEMA, UNEDITED, summarise
from thalweg.errors import ThalwegError
from thalweg.models import interventions
from thalweg.models.hooks import answer_in, capture_activations
from thalweg.models.records import Layer

MOST_PAIRS = 24  # of goals, drawn at random where there are more
MOST_OTHERS = 4  # goals of other prompts, for each pair
LEAST = 5  # cases; with fewer there is no mean
AT_ONCE = 4096  # prompts


@dataclass(frozen=True, eq=False)
class Goals:
    """The same cases asked under each of several goals.

    Attributes:
        inputs: What a network is given; its answer is read at the last token.
        answers: The right ones.
        candidates: All answers, among which the likeliest is the network's.
        places: Tokens at which the goal may be edited; none for networks whose layers have one place.
        parts: The last part of the names of the modules among which the layer is chosen.

    Raises:
        ThalwegError: There are fewer than two goals, or too few cases to choose, learn and test on.
    """

    inputs: Int[Tensor, "goal case *token"]
    answers: Int[Tensor, "goal case"]
    candidates: Int[Tensor, " answer"]
    places: tuple[int, ...] = ()
    parts: tuple[str, ...] = ("heads", "residual")

    def __post_init__(self) -> None:
        goals, cases = self.answers.shape
        if goals < 2 or cases < 3:
            raise ThalwegError(f"{goals} goals and {cases} cases; at least 2 and 3 were expected")


@dataclass(frozen=True)
class Redirection:
    """What comes of redirecting a network.

    Attributes:
        summary: A row for each measure.
        shuffled: The same of the control.
    """

    summary: pl.DataFrame
    shuffled: pl.DataFrame


@dataclass(frozen=True)
class _Site:
    """Where a goal is edited."""

    layer: str
    place: int | None


def redirect(network: nn.Module, several: Sequence[Goals], *, seed: int, every: bool = False) -> Redirection:
    """Redirect a network from each goal to each other, and measure what it does.

    Args:
        network: It is what it was afterwards.
        several: Goals that are apart from each other, as those of two languages; rows are means over all their cases.
        seed: Of what is drawn: the parts of cases, pairs of goals, the control's prompts and the intervals.
        every: Whether all cases count, for a network that knows none.
    """
    parts = [_Study.of(network, goals, seed, every) for goals in several]
    known = [float(part.known.double().mean()) for part in parts]
    share = _row("", UNEDITED, GOALS_KNOWN, sum(known) / len(known), sum(part.known.numel() for part in parts))
    summaries = []
    for shuffled in (False, True):
        rows = [row for number, part in enumerate(parts) for row in part.rows(f"{number}-", shuffled=shuffled)]
        facts = pl.DataFrame(rows, schema=FACTS_SCHEMA)
        layer = ", ".join(dict.fromkeys(part.site.layer for part in parts if part.site))
        if (count := facts.filter(measure=REDIRECTED)["fact"].n_unique()) >= LEAST:
            made = summarise(facts, layer, seed=seed)
        else:
            enough = any(part.site for part in parts)
            why = f"{count} cases are known under two goals, and {LEAST} were expected" if enough else "no layer inside"
            empty = [_row(layer, REDIRECT, name, math.nan, count, why) for name in (REDIRECTED, REACHED, KEPT)]
            made = pl.DataFrame(empty, schema=SUMMARY_SCHEMA, orient="row")
        summaries.append(made)
    first = pl.DataFrame([share], schema=SUMMARY_SCHEMA, orient="row")
    return Redirection(pl.concat([first, summaries[0]]), summaries[1])


def _row(layer: str, name: str, measure: str, value: float, n: int, note: str = "") -> tuple[object, ...]:
    return layer, name, measure, value, math.nan, math.nan, n, note


@dataclass(frozen=True, eq=False)
class _Study:
    """A network with its goals, and the layer at which they are edited.

    `before` are its answers without an edit, `known` which of them are right, `counted` those that count. `learn` and
    `test` are cases. `pairs` are those of goals. `values` are those of the layer in the cases to learn from.
    """

    network: nn.Module
    goals: Goals
    before: Int[Tensor, "goal case"]
    known: Bool[Tensor, "goal case"]
    counted: Bool[Tensor, "goal case"]
    test: Int[Tensor, " tested"]
    pairs: tuple[tuple[int, int], ...]
    seed: int
    site: _Site | None
    values: Float[Tensor, "goal learnt unit"]

    @classmethod
    def of(cls, network: nn.Module, goals: Goals, seed: int, every: bool) -> "_Study":
        """Goals of a network: what it knows, and where success on some cases is highest."""
        generator = torch.Generator().manual_seed(seed)
        learn, choose, test = torch.randperm(goals.answers.shape[1], generator=generator).tensor_split(3)
        pairs = list(permutations(range(len(goals.answers)), 2))
        drawn = torch.randperm(len(pairs), generator=generator)[:MOST_PAIRS].sort().values
        before = _answers(network, goals, goals.inputs.flatten(0, 1)).view(goals.answers.shape)
        known = before == goals.answers
        counted = torch.ones_like(known) if every else known
        chosen = tuple(pairs[index] for index in drawn.tolist())
        common = (network, goals, before, known, counted)
        best, found = -1.0, cls(*common, test, chosen, seed, None, torch.zeros(len(known), 0, 0))
        for site, values in _values(network, goals, learn).items():
            tried = cls(*common, choose, chosen, seed, site, values)
            rows = tried.rows("", measures=(REDIRECTED,))
            hits = [value for row in rows if isinstance(value := row["value"], float)]
            success = sum(hits) / max(1, len(hits))
            if success > best:
                best, found = success, cls(*common, test, chosen, seed, site, values)
        return found

    def rows(
        self, name: str, *, shuffled: bool = False, measures: Sequence[str] = (REDIRECTED, REACHED, KEPT)
    ) -> list[dict[str, object]]:
        """A row for each case that is tested and each measure: the mean over pairs of goals."""
        if self.site is None:
            return []
        jobs = [(pair, goal) for pair in range(len(self.pairs)) for goal in self._asked(pair, KEPT in measures)]
        pair, goal = torch.tensor(jobs).T
        given = self.goals.inputs[goal][:, self.test]
        vectors = self._vectors(shuffled)[pair].repeat_interleave(len(self.test), 0)
        after = _answers(self.network, self.goals, given.flatten(0, 1), self.site, vectors).view(len(jobs), -1)
        start, end = torch.tensor(self.pairs)[pair].T
        own = goal == start
        both = self.counted[start][:, self.test] & self.counted[end][:, self.test]
        kinds = {
            REDIRECTED: (after == self.goals.answers[end][:, self.test], both, own),
            REACHED: (torch.stack([torch.isin(*each) for each in zip(after, self.goals.answers[end], strict=True)]),
                      both, own),
            KEPT: (after == self.before[goal][:, self.test], self.counted[goal][:, self.test], ~own),
        }  # fmt: skip
        cases = self.test.tolist()
        made: list[dict[str, object]] = []
        for measure in measures:
            hits, counts, chosen = kinds[measure]
            sums = (hits & counts)[chosen].sum(0).tolist(), counts[chosen].sum(0).tolist()
            made += [
                {"fact": f"{name}{case}", "concept": "", "method": REDIRECT, "measure": measure, "value": hit / count}
                for case, hit, count in zip(cases, *sums, strict=True)
                if count
            ]
        return made

    def _asked(self, pair: int, others_too: bool) -> list[int]:
        """The goals that prompts name to which a pair's vector is added: its own first, then others."""
        start, end = self.pairs[pair]
        count = len(self.goals.answers)
        others = [(end + step) % count for step in range(count) if (end + step) % count != start]
        return [start, *(others[:MOST_OTHERS] if others_too else [])]

    def _vectors(self, shuffled: bool) -> Float[Tensor, "pair unit"]:
        """The difference of means of each pair of goals, or one of the same length of prompts dealt out at random."""
        start, end = torch.tensor(self.pairs).T
        means = self.values.mean(1)
        apart = means[end] - means[start]
        if not shuffled:
            return apart
        flat = self.values.flatten(0, 1)
        order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(self.seed))
        dealt = flat[order].view(self.values.shape).mean(1)
        other = dealt[end] - dealt[start]
        as_long: Tensor = other * (apart.norm(dim=1) / other.norm(dim=1).clamp_min(1e-12))[:, None]
        return as_long


@torch.inference_mode()
def _answers(
    network: nn.Module, goals: Goals, inputs: Tensor, site: _Site | None = None, vectors: Tensor | None = None
) -> Int[Tensor, " prompt"]:
    """The network's answers, with a vector for each prompt added at a site."""
    device = next(network.parameters()).device
    candidates = goals.candidates.to(device)
    parts: list[Tensor] = []
    for rows in torch.arange(len(inputs)).split(AT_ONCE):
        given = inputs[rows].to(device)
        with nullcontext() if vectors is None or site is None else _adding(network, site, vectors[rows], given):
            logits = answer_in(network(given))
        assert logits is not None
        last = logits[:, -1] if logits.ndim == 3 else logits
        parts.append(goals.candidates[last[:, candidates].argmax(1).cpu()])
    return torch.cat(parts)


def _adding(network: nn.Module, site: _Site, vectors: Tensor, given: Tensor) -> AbstractContextManager[None]:
    """The network with each prompt's vector added at a site."""
    if site.place is None:
        return interventions.add(network, Layer(site.layer), vectors)
    added = torch.zeros(len(vectors), given.shape[1], vectors.shape[1])
    added[:, site.place] = vectors
    return interventions.add(network, Layer(site.layer, unit_axis=2), added)


@torch.inference_mode()
def _values(
    network: nn.Module, goals: Goals, cases: Int[Tensor, " case"]
) -> dict[_Site, Float[Tensor, "goal case unit"]]:
    """What each layer has at each place, of some cases under each goal."""
    names = [name for name, _ in network.named_modules() if name.rpartition(".")[2] in goals.parts]
    given = goals.inputs[:, cases]
    with capture_activations(network, [Layer(name) for name in names]) as kept:
        network(given.flatten(0, 1).to(next(network.parameters()).device))
        found: dict[_Site, Tensor] = {}
        for name in names:
            values = kept[name].float().cpu().unflatten(0, given.shape[:2])
            for place in goals.places or (None,):
                found[_Site(name, place)] = (values if place is None else values[:, :, place]).clone()
    return found
