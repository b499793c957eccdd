"""A small TopK dictionary of rows that are in memory, trained until it gets no better.

A survey trains one for each layer of each model and of its twins, so it must take seconds. SAELens, which trains larger
ones, takes longer to import, and trains for a number of steps that is fixed beforehand: then a layer that learns slowly
would look as if it had less to be found. Here training goes on while the unexplained variance of other rows falls, and
ends with a falling learning rate.

Latents that no row activates are left dead, and counted. To draw them towards what the others leave unexplained (the
auxiliary loss of Gao et al. 2024) explains no more here, and where there are no more features than neurons it splits
features over latents: of 16 planted features in 16 neurons, 57 latents were alive instead of 31, and the best single
feature explained .52 of a latent's variance instead of .72.

Limits: a few thousand stimuli give a layer that is not convolutional a few thousand rows. A dictionary of many latents
then explains its own rows better than others, so how well it does is said of stimuli that it was not trained on.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from thalweg.bases.dictionaries import Dictionary
from thalweg.compute.adam import Adam

BATCH = 256  # rows
WINDOW = 50  # steps between two looks at how far it has come
PATIENCE = 2  # looks in a row without an improvement
IMPROVEMENT = 0.02  # of the unexplained variance, below which a look shows none
MOST_STEPS = 4000
COOLING = 0.25  # of the steps so far, in which the learning rate falls to 0
RATE = 8e-4  # for 2^14 latents, and more for fewer: by the root of their number, as Gao et al. (2024, figure 3) found;
# four times theirs, for small layers learn as much from it in a third of the steps
ROUNDING = 1e-6  # of a value: what differs by less is the same, in seven digits


@dataclass(frozen=True)
class Training:
    """How a dictionary is trained: so many latents, of which k are active at once."""

    latents: int
    k: int
    seed: int = 0


def train(
    rows: Float[Tensor, "row neuron"], others: Float[Tensor, "other neuron"], how: Training
) -> tuple[Dictionary, int]:
    """A dictionary of these rows, trained until it explains no more of the `others`, and the number of steps that it
    took. It explains nothing, with weights of 0, where there are no rows or they do not vary.
    """
    mean = rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[1])
    variance = float((rows - mean).double().square().sum(1).mean()) if len(rows) else 0.0
    if variance == 0 or _alike(rows):
        zeros = rows.new_zeros(how.latents, rows.shape[1])
        return Dictionary(zeros, zeros[:, 0].clone(), mean, zeros, mean, "topk", how.k), 0
    scale = (variance / rows.shape[1]) ** 0.5
    fit = _Fit((rows - mean) / scale, how)
    steps = fit.run((others - mean) / scale)
    offset = (mean + scale * fit.offset).detach()
    encoder, decoder = (weight.detach().clone() for weight in (fit.encoder, fit.decoder))
    bias = fit.bias.detach().clone()
    return Dictionary(encoder / scale, bias, offset, decoder * scale, offset, "topk", how.k), steps


def _alike(rows: Float[Tensor, "row neuron"]) -> bool:
    """Whether all rows are one and the same but for rounding; their mean has a rounding of its own."""
    return bool(((rows - rows[0]).abs() <= ROUNDING * rows[0].abs()).all())


class _Fit:
    """Weights of a dictionary of rows that are centred, with a mean square of 1, and their training."""

    def __init__(self, rows: Float[Tensor, "row neuron"], how: Training) -> None:
        self.rows, self.how = rows, how
        self.generator = torch.Generator().manual_seed(how.seed)
        drawn = torch.randn(how.latents, rows.shape[1], generator=self.generator).to(rows.device)
        self.decoder = nn.functional.normalize(drawn, dim=1).requires_grad_()
        self.encoder = self.decoder.detach().clone().requires_grad_()
        self.bias = rows.new_zeros(how.latents).requires_grad_()
        self.offset = rows.new_zeros(rows.shape[1]).requires_grad_()
        rate = RATE / (how.latents / 2**14) ** 0.5
        self.optimizer = Adam([self.decoder, self.encoder, self.bias, self.offset], rate)

    def run(self, others: Float[Tensor, "other neuron"]) -> int:
        """Train until nothing is gained on other rows; returns the number of steps."""
        best, waited, steps = float("inf"), 0, 0
        while waited < PATIENCE and steps < MOST_STEPS:
            for _ in range(WINDOW):
                self._step()
            with torch.no_grad():
                unexplained = float(self._unexplained(others))
            waited = 0 if unexplained < (1 - IMPROVEMENT) * best else waited + 1
            best, steps = min(best, unexplained), steps + WINDOW
        rate, cooling = self.optimizer.learning_rate, int(COOLING * steps)
        for step in range(cooling):
            self.optimizer.learning_rate = rate * (1 - step / cooling)
            self._step()
        return steps + cooling

    def _step(self) -> None:
        """One step on rows drawn at random."""
        drawn = torch.randint(len(self.rows), (BATCH,), generator=self.generator)
        loss = self._unexplained(self.rows[drawn.to(self.rows.device)])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.decoder.copy_(nn.functional.normalize(self.decoder, dim=1))

    def _unexplained(self, values: Float[Tensor, "row neuron"]) -> Float[Tensor, ""]:
        """The share of the rows' mean square that is unexplained."""
        latents = nn.functional.linear(values - self.offset, self.encoder, self.bias)
        kept = latents.relu().topk(self.how.k, 1, sorted=False)
        active = torch.zeros_like(latents).scatter(1, kept.indices, kept.values)
        left = values - (active @ self.decoder + self.offset)
        return left.square().sum() / values.square().sum().clamp_min(1e-12)


def active_in(dictionary: Dictionary, rows: Float[Tensor, "row neuron"]) -> Bool[Tensor, " latent"]:
    """Which latents any of the rows activates."""
    parts = [(dictionary.activate(dictionary.encode(part)) > 0).any(0) for part in rows.split(8192)]
    return torch.stack(parts).any(0) if parts else torch.zeros(dictionary.latents, dtype=torch.bool)
