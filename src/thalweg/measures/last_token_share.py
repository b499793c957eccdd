"""Is a unit of a language model a function of its last token?

Most units of small language models are: knowing the last token, one knows their value, and any observer that sees
tokens predicts them. How much of a unit that explains stands beside every score; `two_choice_matched_token` asks what
is left.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.measures.base import Score, measure


@measure(
    version=1,
    unit="share of variance",
    range=(0.0, 1.0),
    chance=0.0,
    higher_is="more a function of the last token",
    cite="the analysis of variance's adjusted share (epsilon squared, Kelley 1935)",
)
def last_token_share(token_share: Float[Tensor, " unit"]) -> Score:
    """The share of a unit's variance over the pool that the identity of the last token explains.

    1 - (mean square within the groups of stimuli that end in the same token) / (mean square over all), not below 0:
    without the adjustment, many groups would explain much of pure noise. Tokens that end fewer than five windows of the
    pool count as one group. There is no interval: the pool is the population.

    A constant unit is NaN.

    How it can mislead: rare tokens are not told apart, so the share is a little too low; and what the last token
    explains need not be what the unit is about.
    """
    n = torch.where(token_share.isnan(), 0, 1)
    return Score(token_share, token_share, token_share, n)
