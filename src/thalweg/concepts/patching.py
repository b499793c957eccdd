"""Causal sharing: a concept's representation from a sentence of one language, put into a sentence of the other.

The sentence of the other language is about another concept. If the languages share the concept, the prediction there
moves towards what the same sentence about the patched-in concept would give. With p that prediction, q the unpatched
one and r the patched one, the shift is KL(p | q) - KL(p | r), in bits: KL(p | q) at most, 0 if nothing moves, below 0
if the prediction moves away from p. Of `patch` the concept comes from the other language; of `patch_mismatched` a
third, unrelated concept does; of `patch_within` the concept comes from the same language, which is what can be reached
there.

Limits: representations are put in as they are, in the other language's context and at another position. Behind the last
layer that later tokens read, nothing moves.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from thalweg.concepts.estimates import Scores, mean_of
from thalweg.concepts.pairs import ConceptPairs, unrelated
from thalweg.concepts.representations import Reader
from thalweg.models.hooks import replacing_values
from thalweg.models.records import Layer

PATCHES = ("patch", "patch_mismatched", "patch_within")


def patched_logits(
    reader: Reader,
    layer: Layer,
    tokens: Int[Tensor, "row token"],
    places: tuple[Int[Tensor, " row"], Int[Tensor, " row"]],
    values: Float[Tensor, "row unit"],
) -> Float[Tensor, "row vocabulary"]:
    """Log-probabilities of the next token at the end of contexts in which a layer's values at one place are replaced.

    Args:
        reader: The network.
        layer: Where.
        tokens: The contexts.
        places: Where values are replaced, and where the prediction is read.
        values: What is put there.
    """
    at, ends = places
    parts = []
    for rows in torch.arange(len(tokens)).split(reader.at_once):

        def change(now: Tensor, rows: Tensor = rows) -> Tensor:
            changed, before = now.clone(), now.shape[1] - tokens.shape[1]  # what the model puts before every text
            changed[torch.arange(len(rows)), before + at[rows]] = values[rows].to(now)
            return changed

        with replacing_values(reader.network, layer, change):
            parts.append(reader.predictions(tokens[rows], ends[rows]))
    return torch.cat(parts)


def patching(reader: Reader, pairs: ConceptPairs, layer: Layer, *, seed: int) -> Mapping[str, Scores]:
    """The shift of the prediction in bits by each kind of patch, a mean over contexts and both directions."""
    count = len(pairs)
    source = unrelated(count, seed)  # the concept that is put in; the sentence is about concept i
    third = source[source] if count > 2 else source
    shifts: dict[str, list[Tensor]] = {name: [] for name in PATCHES}
    for context in range(pairs.patched):
        for target in (0, 1):
            tokens, at, ends = (part[target, :, context] for part in (pairs.tokens, pairs.places, pairs.ends))
            plain = reader.predictions(tokens, ends)
            goal = plain[source]
            away = _divergence(goal, plain)
            values = reader.values_at(layer, pairs.tokens[:, :, context], pairs.places[:, :, context])
            ways = zip(PATCHES, ((1 - target, source), (1 - target, third), (target, source)), strict=True)
            for name, (language, concept) in ways:
                now = patched_logits(reader, layer, tokens, (at, ends), values[language][concept])
                shifts[name].append(away - _divergence(goal, now))
    return {name: mean_of(torch.stack(parts).mean(0)) for name, parts in shifts.items()}


def _divergence(goal: Tensor, prediction: Tensor) -> Float[Tensor, " row"]:
    """KL(goal | prediction) in bits."""
    nats = functional.kl_div(prediction.double(), goal.double(), reduction="none", log_target=True).sum(1)
    return nats / torch.log(torch.tensor(2.0, dtype=torch.float64))
