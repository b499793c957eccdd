"""How a pass over stimuli is made, and how much it keeps of each unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor

from thalweg.recording.limits import DIRECTIONS
from thalweg.recording.readout import NEURONS


@dataclass(frozen=True)
class RecordingSettings:
    """How a pass over stimuli is made, and how much it keeps of each unit."""

    bases: Sequence[str] = (NEURONS,)
    k: int = 64  # of the highest stimuli that are kept, and of the lowest
    sample: int = 512  # stimuli whose values are kept of every unit
    seed: int = 0
    batch_size: int = 250
    device: str = "cpu"
    precision: str = "float32"
    workers: int = 1  # that decode pictures ahead
    directions: int = DIRECTIONS  # of a layer in the basis "random", at most (see `readout.directions`)
    # by layer, what each unit is divided by before it is rotated (see `unit_deviations`)
    deviations: Mapping[str, Float[Tensor, " unit"]] = field(default_factory=dict, compare=False)
    # what is given the ids of each part of a batch and what the model returned for it; passes then go to its end
    read_output: Callable[[Int[Tensor, " part"], object], None] | None = field(default=None, compare=False)
    # what is given those ids, a layer's name and what it gave, while it is at hand
    read_layer: Callable[[Int[Tensor, " part"], str, Tensor], None] | None = field(default=None, compare=False)


DEFAULTS = RecordingSettings()
