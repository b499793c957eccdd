"""How often a unit is active.

Features of language are said to be much sparser than features of images, and sparse features are what superposition can
hold. Activation sparsity (Hoyer's index) describes the whole distribution of a unit's values. Density asks the simpler
question, in a unit that networks of any kind share: how often is the unit active? It is asked at single places, since
the highest of many pixels is active for nearly every picture.

A rectifier makes "active" plain: above zero. GELU, tanh and a residual stream have no such line. So a unit counts as
active where it is at least a tenth as far from zero as on the stimuli that drive it most. The same line serves all.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from thalweg.factors.base import DICTIONARIES, Estimate, factor, mean_of_units
from thalweg.trials.building import REFERENCES

ACTIVE = 0.1  # of the mean of a unit's largest values


@factor(
    version=2,
    unit="share of places",
    range=(0.0, 1.0),
    higher_is="active more often",
    cite="Bricken et al. 2023, Towards Monosemanticity (feature density); the line of a tenth is thalweg's",
)
def activation_density(places: Mapping[str, Float[Tensor, "place unit"]]) -> Estimate:
    """The share of stimuli and places on which a unit is active; the mean over layers of the mean over units.

    A unit is active where |x| is at least a tenth of the mean of its nine largest |x|, with x its values after the
    nonlinearity: at four random places of 256 stimuli for units of many pixels, and on the shared random sample for
    units that have one value a stimulus (a perceptron's, or a language model's at its last token). Latents of a
    dictionary are taken after their activation. Gaussian values around zero, as those of random directions, have 0.77.
    The interval comes from the scatter of units within layers; n counts units.

    Units that are zero everywhere or have values that are not finite have no density and are left out; NaN where all
    are.

    How it can mislead: what has no nonlinearity (a residual stream) has an arbitrary zero, and comes out as dense as
    Gaussian values, so compare layers of one kind; a unit with a few very large values looks sparse; a few stimuli make
    the largest values smaller and the density larger.
    """
    densities = {name: density(values) for name, values in places.items()}
    return mean_of_units(densities, note="no unit is ever active", least=0.0, most=1.0)


@factor(
    version=1,
    unit="share of places",
    range=(0.0, 1.0),
    higher_is="active more often",
    cite="Bricken et al. 2023, Towards Monosemanticity (feature density); the line of a tenth is thalweg's",
    only_with=DICTIONARIES,
)
def latent_density(latents: Mapping[str, Float[Tensor, "place latent"]]) -> Estimate:
    """The share of stimuli and places on which a dictionary's latent is active; the mean over layers of the mean over
    latents.

    As `activation_density`, of the latents of the dictionary that the survey trained for each layer (`--basis
    neurons,sae`) after their activation, at four random places of 1,024 stimuli (at one, where there is one). The
    untrained twin has dictionaries of its own. The interval comes from the scatter of latents within layers; n counts
    latents.

    Latents that are never active there have no density and are left out. NaN for the rotated twin.

    How it can mislead: the dictionary sets it in part, for so many of its latents are active at once (`--active`), and
    the more latents it has, the sparser they are; so compare networks whose dictionaries are of one size, and trained
    networks with their untrained twins.
    """
    densities = {name: density(values) for name, values in latents.items()}
    note = "no latent is ever active" if latents else "there are no dictionaries"
    return mean_of_units(densities, note=note, least=0.0, most=1.0)


def density(values: Float[Tensor, "place unit"]) -> Float[Tensor, " unit"]:
    """The share of places on which each unit is active; NaN for a unit that is zero everywhere or has values that are
    not finite.
    """
    sizes = values.abs()
    top = sizes.topk(min(REFERENCES, len(sizes)), dim=0).values.mean(0)
    share = (sizes >= ACTIVE * top).double().mean(0)
    return share.where((top > 0) & values.isfinite().all(0), torch.nan)
