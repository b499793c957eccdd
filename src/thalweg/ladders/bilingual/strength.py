"""How strong a network is in a world: bits of a fact's value that it knows on lines it was never trained on.

Only the value is asked for, among the values of the relation in the language of the answer: chance is one of so many.
The pool has known facts in new sentences and, nearly half of it, facts in the language that never stated them. So the
bits go on growing when the network knows every fact that it was told: what is left is to carry facts across. A network
that knows facts by heart and guesses the others with confidence loses bits by those.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thalweg.compute.devices import all_finite, in_double, placed
from thalweg.errors import ThalwegError
from thalweg.ladders.bilingual.lines import CARRIED
from thalweg.ladders.bilingual.world import PARTICLES, Settings
from thalweg.strength.language import windows

STRENGTH = "held-out bits of a fact's value above guessing"
BATCH = 500


def value_index(tokens: Int[Tensor, " line"], settings: Settings) -> Int[Tensor, " line"]:
    """Of the tokens of values, each one's index among the values of its relation."""
    word = (tokens - sum(map(len, PARTICLES.values()))) % settings.concepts
    return (word - settings.entities - settings.relations) % settings.values


def value_logits(
    model: nn.Module, tokens: Int[Tensor, "line token"], values: Int[Tensor, " line"], settings: Settings
) -> tuple[Float[Tensor, "line value"], Int[Tensor, " line"]]:
    """A model's logits for all values of the relation that lines ask about, and the index of the right one."""
    right = value_index(values, settings)
    candidates = (values - right)[:, None] + torch.arange(settings.values)
    parts = []
    with torch.inference_mode():
        for some_tokens, some_candidates in zip(tokens.split(BATCH), candidates.split(BATCH), strict=True):
            logits = model(some_tokens.to(next(model.parameters()).device))[:, -1]
            parts.append(logits.gather(1, some_candidates.to(logits.device)).cpu())
    return torch.cat(parts), right


def evaluate(model: nn.Module, stimuli: object, *, settings: Settings, device: str = "cpu") -> dict[str, float]:
    """How well a model knows the values: `loss` (nats among a relation's values), `bits` = log2 values - loss / ln 2,
    their `share` of log2 values, `accuracy`; and of the facts that are asked in the language that never stated them
    `carried_bits` and `carried_accuracy`, NaN where there are none.

    Raises:
        ThalwegError: The stimuli are no lines, or logits are not finite.
    """
    lines = windows(stimuli)
    asked = lines.take(torch.nonzero(lines.labels < 6).flatten())
    logits, right = value_logits(placed(model.eval(), device), asked.batch(slice(None)), asked.following, settings)
    if not all_finite(logits):
        raise ThalwegError(
            "the model returned NaN or infinite logits; train it with a smaller learning rate or mend it"
        )
    exact = in_double(logits)
    nats = functional.cross_entropy(exact, right, reduction="none")
    hits = (logits.argmax(1) == right).double()
    carried = torch.isin(asked.labels, torch.tensor(CARRIED))
    most = math.log2(settings.values)
    bits = most - nats / math.log(2)
    return {
        "loss": float(nats.mean()),
        "bits": float(bits.mean()),
        "share": float(bits.mean()) / most,
        "accuracy": float(hits.mean()),
        "carried_bits": float(bits[carried].mean()),
        "carried_accuracy": float(hits[carried].mean()),
    }
