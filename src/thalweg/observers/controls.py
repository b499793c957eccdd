"""Control observers of any stimuli: what they score asks for no abstraction."""

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.observers.base import observer
from thalweg.stimuli.base import Stimuli


@observer(version=1, control=True)
def trivial(stimuli: Stimuli) -> Float[Tensor, "stimulus feature"]:
    """Low-level statistics of the stimuli, and their squares.

    Images: mean and contrast of each colour channel, mean gradients along both axes. Text: log-frequency of the last
    token, length in bytes, shares of capitals, digits and punctuation. Pairs: the two numbers. A control, and what
    `two_choice_matched` takes away: a pair of stimuli that these decide asks for no abstraction.
    """
    statistics = stimuli.low_level()
    statistics = (statistics - statistics.mean(0)) / statistics.std(0).clamp_min(1e-9)
    return torch.cat([statistics, statistics.square()], 1)


@observer(version=1, control=True)
def random(stimuli: Stimuli) -> Float[Tensor, "stimulus feature"]:
    """Nothing: one fixed random vector for each place in the pool. Whatever it scores is chance."""
    return torch.randn(len(stimuli), 64, generator=torch.Generator().manual_seed(0))
