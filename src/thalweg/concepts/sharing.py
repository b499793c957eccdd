"""How much of a concept's representation two languages share: five measures, side by side.

Each takes the representations of the same concepts in both languages, (2, concept, unit): means over contexts. None is
a number for sharing by itself. Retrieval and CKA see the geometry and are high where dictionaries alone link two words;
overlap and shared units ask whether single units answer to both words; a probe asks whether what is known of a concept
is written in the same way. Each has its control: the same with the concepts of the second language exchanged among
themselves.

Means over concepts are taken off language by language first, for what is common to all words of a language would
decide any cosine.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from thalweg.concepts.estimates import Scores, mean_of

Pair = Float[Tensor, "2 concept unit"]
ACTIVE_SHARE = 0.1  # of a layer's units: those that a concept drives most
ANSWERS = 2.0  # standard deviations above a unit's mean over concepts: it answers to this one
GROUPS = 20  # of concepts, that the jackknife leaves out in turn
FOLDS = 5
RIDGE = 0.1  # of the mean variance along a direction: the probe's penalty
FLAT = 1e-9


def centred(pair: Pair) -> Pair:
    """The representations without the mean of their language."""
    return pair - pair.mean(1, keepdim=True)


def standardised(pair: Pair) -> Pair:
    """The representations in standard deviations over the concepts of their language; constant units are 0."""
    deviation = pair.std(1, correction=0, keepdim=True)
    return torch.where(deviation > FLAT, centred(pair) / deviation.clamp_min(FLAT), 0.0)


def retrieval(pair: Pair) -> Scores:
    """How often the nearest of all words of the other language, by cosine, is the translation; both directions.

    Chance is one over the number of concepts. Words that are equally near share the hit.
    """
    first, second = normalize(centred(pair).double(), dim=2)
    cosines = first @ second.T
    right = cosines.diagonal()
    hits = [
        (right >= cosines.amax(axis) - FLAT) / (cosines >= cosines.amax(axis, keepdim=True) - FLAT).sum(axis)
        for axis in (0, 1)
    ]
    return mean_of((hits[0] + hits[1]) / 2, f"chance {1 / len(right):.3g}")


def cka(pair: Pair) -> Scores:
    """Linear centred kernel alignment of the two languages: |Y'X|^2 / (|X'X| |Y'Y|), 1 for the same geometry.

    With many units and few concepts it is far above 0 for unrelated representations: look at the shuffled pairs. Its
    interval rests on jackknife pseudo-values of groups of concepts. Source: Kornblith et al. 2019.
    """
    grams = torch.stack([each @ each.T for each in pair.double()])
    count = pair.shape[1]
    whole = _alignment(grams)
    groups = torch.arange(count).tensor_split(min(GROUPS, count))
    kept = [torch.isin(torch.arange(count), group, invert=True).nonzero().flatten() for group in groups]
    without = torch.tensor([_alignment(grams[:, ids][:, :, ids]) for ids in kept], dtype=torch.float64)
    return Scores(whole, len(groups) * whole - (len(groups) - 1) * without, count)


def _alignment(grams: Float[Tensor, "2 concept concept"]) -> float:
    inner = grams - grams.mean(1, keepdim=True) - grams.mean(2, keepdim=True) + grams.mean((1, 2), keepdim=True)
    sizes = inner.square().sum((1, 2)).sqrt()
    return float((inner[0] * inner[1]).sum() / (sizes[0] * sizes[1]).clamp_min(1e-300))


def overlap(pair: Pair) -> Scores:
    """The overlap (Jaccard) of the tenth of the units that a concept drives most, in standard deviations, and those
    that its translation drives most: units in both over units in either.
    """
    active = most_active(standardised(pair))
    both = (active[0] & active[1]).sum(1)
    return mean_of(both / (active[0] | active[1]).sum(1))


def most_active(values: Pair) -> Bool[Tensor, "2 concept unit"]:
    """The tenth of the units, at least one, that are highest for each concept."""
    count = max(1, round(ACTIVE_SHARE * values.shape[2]))
    return torch.zeros_like(values, dtype=torch.bool).scatter(2, values.topk(count, 2).indices, True)


def shared_units(pair: Pair) -> Scores:
    """How many units answer to a concept in both languages: they lie two standard deviations above their mean over
    concepts in each. A mean over concepts.
    """
    return mean_of(answering(pair).sum(1).double())


def answering(pair: Pair) -> Bool[Tensor, "concept unit"]:
    """Which units answer to which concepts in both languages."""
    answers = standardised(pair) > ANSWERS
    return answers[0] & answers[1]


def probe(pair: Pair, classes: Int[Tensor, "task concept"]) -> Scores:
    """How well a linear probe that was trained in one language tells what is true of other concepts in the other.

    Ridge regression onto the classes, for each task; concepts are held out in five parts, both directions are taken.
    """
    rows = centred(pair).double()
    return _probed(classes, lambda kept: ((rows[0], rows[1], kept), (rows[1], rows[0], kept)))


def probe_within(pair: Pair, classes: Int[Tensor, "task concept"]) -> Scores:
    """The same, trained and tested in one language: what a probe can reach. A mean over both."""
    rows = centred(pair).double()
    return _probed(classes, lambda kept: ((rows[0], rows[0], kept), (rows[1], rows[1], kept)))


def _probed(classes: Int[Tensor, "task concept"], ways: Callable[[Tensor], tuple[tuple[Tensor, ...], ...]]) -> Scores:
    count, n_classes = classes.shape[1], int(classes.max()) + 1
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    hits = torch.zeros(count, dtype=torch.float64)
    for fold in order.tensor_split(FOLDS):
        kept = torch.isin(torch.arange(count), fold, invert=True)
        for train, test, rows in ways(kept):
            weights = _ridge(train[rows], classes[:, rows], n_classes)
            said = (test[fold] @ weights[:-1] + weights[-1]).unflatten(1, (len(classes), n_classes)).argmax(2)
            hits[fold] += (said == classes[:, fold].T).double().sum(1)
    return mean_of(hits / (2 * len(classes)), f"chance {1 / n_classes:.3g}")


def _ridge(rows: Tensor, labels: Tensor, n_classes: int) -> Float[Tensor, "unit_and_bias task_and_class"]:
    """The weights of ridge regressions onto the classes of each task, -1 left out, with the bias last. Tasks of which
    the same concepts are known are solved together.
    """
    known = labels >= 0
    if not bool((known == known[0]).all()):
        return torch.cat([_ridge(rows, task[None], n_classes) for task in labels], 1)
    rows, goal = rows[known[0]], torch.nn.functional.one_hot(labels[:, known[0]].T, n_classes).flatten(1).double()
    means, bias = rows.mean(0), goal.mean(0)
    gram = (rows - means).T @ (rows - means)
    penalty = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), (rows - means).T @ goal)
    return torch.cat([weights, (bias - means @ weights)[None]])


MEASURES: Mapping[str, Callable[[Pair], Scores]] = {
    "retrieval": retrieval,
    "cka": cka,
    "overlap": overlap,
    "shared_units": shared_units,
}
PROBES: Mapping[str, Callable[[Pair, Int[Tensor, "task concept"]], Scores]] = {
    "probe": probe,
    "probe_within": probe_within,
}
