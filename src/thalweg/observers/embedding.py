"""What observers answer by: centred embeddings, and a dictionary of named features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from thalweg.observers.base import Features, Observer
from thalweg.stimuli.base import Stimuli


def centred(features: Float[Tensor, "stimulus feature"]) -> Float[Tensor, "stimulus feature"]:
    """Feature vectors minus their mean over the pool, scaled to length 1: dot products are then centred cosines."""
    vectors: Tensor = features - features.mean(0)
    vectors /= vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)  # in place, for a pool may be large
    return vectors


def centring(
    pool: Float[Tensor, "stimulus feature"], others: Float[Tensor, "other feature"], centre: bool
) -> tuple[Float[Tensor, "stimulus feature"], Float[Tensor, "other feature"]]:
    """The embedding of a pool, and of other stimuli by the same mean."""
    mean = pool.mean(0) if centre else torch.zeros(pool.shape[1])
    return normalised(pool - mean), normalised(others - mean)


def normalised(features: Float[Tensor, "stimulus feature"]) -> Float[Tensor, "stimulus feature"]:
    """Feature vectors scaled to length 1: dot products are then cosines."""
    lengths: Tensor = features.norm(dim=1, keepdim=True)
    return features / lengths.clamp_min(1e-12)


def spread(embedding: Float[Tensor, "stimulus feature"]) -> float:
    """The standard deviation of the similarity of two different stimuli, without forming pairs.

    The sum of all n^2 similarities is |sum of e|^2 and that of their squares |E'E|^2 (Frobenius); the n of a stimulus
    with itself are 1 and taken away.
    """
    count = len(embedding)
    ordered = count * (count - 1)
    mean = (embedding.sum(0).square().sum() - count) / ordered
    square = ((embedding.T @ embedding).square().sum() - count) / ordered
    return float((square - mean**2).clamp_min(1e-12).sqrt())


def combined(embeddings: Sequence[Float[Tensor, "stimulus _"]]) -> Float[Tensor, "stimulus feature"]:
    """One embedding whose similarity is the equally weighted sum of the parts', each divided by its standard deviation.

    Concatenating sqrt(w) e adds up w s; the weights are scaled to sum to 1, so the result has length 1 too.
    """
    weights = part_weights(embeddings)
    return torch.cat([weight * embedding for weight, embedding in zip(weights, embeddings, strict=True)], 1)


def part_weights(embeddings: Sequence[Float[Tensor, "stimulus _"]]) -> Float[Tensor, " part"]:
    """What each part's embedding is multiplied by, so that its similarity counts as much as the others' (1 for a part
    alone).
    """
    weights = torch.tensor([1 / spread(embedding) for embedding in embeddings])
    return (weights / weights.sum()).sqrt()


def standardised(features: Float[Tensor, "stimulus feature"]) -> Float[Tensor, "stimulus kept"]:
    """A dictionary's features with mean 0 and variance 1 over the pool; those that never vary are left out, but for one
    of zeros where none does: it tells nothing apart.
    """
    deviation = features.std(0)
    varies = varying(features, deviation)
    if not varies.any():
        return torch.zeros(len(features), 1)
    kept = features[:, varies]
    kept -= kept.mean(0)  # in place, for a pool may be large
    kept /= deviation[varies]
    return kept


def standards(
    features: Float[Tensor, "stimulus feature"],
) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"], Bool[Tensor, " feature"]]:
    """Mean and standard deviation of a dictionary's features over a pool, and which of them vary."""
    deviation = features.std(0)
    varies = varying(features, deviation)
    return features.mean(0), torch.where(varies, deviation, 1.0), varies


def varying(
    features: Float[Tensor, "stimulus feature"], deviation: Float[Tensor, " feature"] | None = None
) -> Bool[Tensor, " feature"]:
    """Which features vary over the pool; `deviation` is their standard deviation, where it is known."""
    largest = torch.maximum(features.amax(0), -features.amin(0))
    return (features.std(0) if deviation is None else deviation) > 1e-6 * largest.clamp_min(1e-30)


@dataclass(frozen=True, eq=False)
class ObserverView:
    """An observer's view of a pool: an embedding to compare whole stimuli by (if it does), and a dictionary of named
    features.
    """

    embedding: Float[Tensor, "stimulus embedded"] | None
    dictionary: Float[Tensor, "stimulus feature"]


def build_view(observer: Observer, seen: Mapping[str, Features], pool: Stimuli) -> ObserverView:
    """Turn what an observer, or its parts, saw of the pool into what it answers by."""
    names = observer.parts or (observer.name,)
    compared = centred if observer.centred else normalised
    embeddings = [compared(seen[name]["features"]) for name in names] if observer.whole else []
    dictionary = standardised(named_features(observer, seen, pool))
    if not embeddings:
        return ObserverView(None, dictionary)
    return ObserverView(embeddings[0] if len(embeddings) == 1 else combined(embeddings), dictionary)


def named_features(
    observer: Observer, seen: Mapping[str, Features], pool: Stimuli
) -> Float[Tensor, "stimulus feature"]:
    """The features of an observer's dictionary as they were seen: those of its parts, then classes and tags."""
    names = observer.parts or (observer.name,)
    named = [seen[name].get("dictionary", seen[name]["features"]) for name in names]
    if observer.names_classes:
        named += _one_hot(pool)
    return named[0] if len(named) == 1 else torch.cat(named, 1)


def _one_hot(pool: Stimuli) -> list[Tensor]:
    """The stimuli's labels and tags, a feature for each."""
    named = [(pool.labels, pool.label_names)]
    named += getattr(pool, "tags", {}).values()
    return [indicators(codes, len(names)) for codes, names in named]


def consecutive_codes(codes: Int[Tensor, " stimulus"], count: int = 0) -> Int64[Tensor, " stimulus"]:
    """Codes as places in a list of so many at least; those that are none (-1 for no label, numbers far beyond their
    count) get places in their order.
    """
    codes = codes.long()
    if len(codes) and (codes.min() < 0 or codes.max() >= max(count, len(codes))):
        codes = codes.unique(return_inverse=True)[1]
    return codes


def indicators(codes: Int[Tensor, " stimulus"], count: int = 0) -> Float[Tensor, "stimulus code"]:
    """A column for each code, of so many at least."""
    consecutive = consecutive_codes(codes, count)
    columns = max(count, int(consecutive.max()) + 1 if len(consecutive) else 1)
    return torch.zeros(len(consecutive), columns).scatter_(1, consecutive[:, None], 1)
