"""A task whose features are known: sparse Boolean latents, and questions that circuits of them answer.

The latents lie in blocks of two or three, one block for each circuit: XOR and AND of two, the majority of three. In
each stimulus a block is *active* with a probability, the density; the latents of a block that is not active are off. An
active block asks one question, whose answer is its circuit's output.

The circuits are matched in information by construction. The answer of an active block is drawn first, by a fair coin;
its latents are then drawn evenly from the patterns that give this answer. So each question has an entropy of one bit,
whatever the circuit and the density, and since both ways of showing a stimulus let each latent be read, the Bayes error
is 0 (`rendering`).

Beside the blocks lie *distractors*: latents that no circuit asks about, each on for a quarter of the stimuli. They
tell stimuli from each other, so that a network can learn wrong answers by heart in either modality.

The *features* that are known are the latents and the circuits' outputs (on where the block is active and the answer is
yes): what a network may sensibly compute. Whether a unit is one of them can be checked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Float, Int64
from torch import Tensor

KINDS: dict[str, tuple[int, Callable[[tuple[int, ...]], bool]]] = {  # how many latents, and the answer
    "xor": (2, lambda bits: sum(bits) % 2 == 1),
    "and": (2, lambda bits: all(bits)),
    "majority": (3, lambda bits: 2 * sum(bits) > len(bits)),
}
EACH = 4  # circuits of each kind
DISTRACTORS = 16
ON = 0.25  # of the stimuli: a distractor
CHOICES = 12  # the least common multiple of how many patterns give an answer: 1, 2, 3 or 4


@dataclass(frozen=True)
class Circuit:
    """A question about some latents.

    Attributes:
        kind: `xor`, `and` or `majority`.
        latents: The places of its latents among all.
    """

    kind: str
    latents: tuple[int, ...]

    def patterns(self, answer: bool) -> list[tuple[int, ...]]:
        """The patterns of its latents that give this answer."""
        size, output = KINDS[self.kind]
        return [bits for bits in product((0, 1), repeat=size) if output(bits) == answer]


@dataclass(frozen=True, eq=False)
class Draw:
    """Stimuli of a task.

    Attributes:
        latents: (stimulus, latent), 0 or 1.
        active: (stimulus, circuit), 1 where the question is asked.
        answers: (stimulus, circuit), 0 or 1; it means nothing where the question is not asked.
    """

    latents: Float[Tensor, "stimulus latent"]
    active: Float[Tensor, "stimulus circuit"]
    answers: Float[Tensor, "stimulus circuit"]

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def features(self) -> Float[Tensor, "stimulus feature"]:
        """All that is known of each stimulus: its latents, and the circuits' outputs."""
        return torch.cat([self.latents, self.active * self.answers], 1)


@dataclass(frozen=True)
class Task:
    """Circuits over latents.

    Attributes:
        circuits: What is asked; each has latents of its own.
        distractors: How many latents follow theirs that nothing asks about.
    """

    circuits: tuple[Circuit, ...]
    distractors: int

    @property
    def n_latents(self) -> int:
        """How many latents there are, distractors among them."""
        return sum(len(circuit.latents) for circuit in self.circuits) + self.distractors

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Of each known feature."""
        latents = (f"latent {place}" for place in range(self.n_latents))
        return (*latents, *(f"{circuit.kind} {place}" for place, circuit in enumerate(self.circuits)))

    @cached_property
    def _table(self) -> Int64[Tensor, "circuit answer choice latent"]:
        """The latents' bits for each choice that a draw can make; circuits of two latents have an idle third."""
        widest = max(len(circuit.latents) for circuit in self.circuits)
        table = torch.zeros(len(self.circuits), 2, CHOICES, widest, dtype=torch.int64)
        for place, circuit in enumerate(self.circuits):
            for answer in (False, True):
                patterns = torch.tensor(circuit.patterns(answer))
                table[place, int(answer), :, : patterns.shape[1]] = patterns.repeat(CHOICES // len(patterns), 1)
        return table

    @cached_property
    def _columns(self) -> Int64[Tensor, " latent"]:
        """Where each latent lies among all circuits' bits laid side by side."""
        widest = self._table.shape[3]
        return torch.tensor(
            [place * widest + bit for place, circuit in enumerate(self.circuits) for bit in range(len(circuit.latents))]
        )

    def draw(self, count: int, density: float, generator: torch.Generator) -> Draw:
        """So many stimuli.

        Args:
            count: How many.
            density: The probability that a block is active.
            generator: Of all that is random.
        """
        shape = (count, len(self.circuits))
        active = (torch.rand(shape, generator=generator) < density).float()
        answers = torch.randint(2, shape, generator=generator)
        choices = torch.randint(CHOICES, shape, generator=generator)
        bits = self._table[torch.arange(shape[1]), answers, choices] * active[:, :, None]
        distractors = (torch.rand(count, self.distractors, generator=generator) < ON).float()
        return Draw(torch.cat([bits.flatten(1)[:, self._columns], distractors], 1), active, answers.float())


def make_task(each: int = EACH, distractors: int = DISTRACTORS) -> Task:
    """The task with so many circuits of each kind, over latents of their own, and so many distractors."""
    circuits: list[Circuit] = []
    used = 0
    for kind, (size, _) in KINDS.items():
        for _ in range(each):
            circuits.append(Circuit(kind, tuple(range(used, used + size))))
            used += size
    return Task(tuple(circuits), distractors)
