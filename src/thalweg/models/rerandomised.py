"""Re-randomised twins: a trained network whose weights are noise of the same size.

An untrained twin differs from its trained model in what was learned, and also in how large weights and activations are:
training changes both. A twin whose every weight tensor is drawn again, from a Gaussian with the tensor's own mean and
variance, keeps the sizes and loses the rest. Automated scores of trained transformers and of such twins overlap (Heap
et al. 2025, arXiv 2501.17727), so a score that is to be the model's merit must stand above this twin's too. Embeddings
hold much of what can be read of a language model, therefore one kind of twin keeps them.
"""

from functools import partial

import torch
from torch import Tensor, nn

from thalweg.compute.devices import is_quantised
from thalweg.errors import ThalwegError
from thalweg.files.identity import digest
from thalweg.models.records import DerivedTwin

RERANDOMISED, KEEPING_EMBEDDINGS = "rerandomised", "rerandomised-keeping-embeddings"
WITH_RERANDOMISED = ("untrained", "rotated", RERANDOMISED)  # the default controls of language models, and of `measure`


def rerandomise(network: nn.Module, seed: int, *, keep_embeddings: bool = False) -> None:
    """Draw every weight tensor of a network again, in place, from a Gaussian with the tensor's own mean and variance.

    Weights that two modules share stay shared. Tensors of whole numbers and of a single number stay as they are, and
    what is no parameter does.

    Args:
        network: the trained network.
        seed: of the draws; each tensor has its own stream, by its name.
        keep_embeddings: leave the weights of `nn.Embedding` modules as they are, and whatever is tied to them.

    Raises:
        ThalwegError: some weights are not in memory, or are quantised.
    """
    if why := why_not(network):
        raise ThalwegError(why)
    kept = {
        id(weight)
        for module in network.modules()
        if keep_embeddings and isinstance(module, nn.Embedding)
        for weight in module.parameters()
    }
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.is_floating_point() and id(weight) not in kept:
                weight.copy_(_redrawn(weight, (seed + int(digest(name), 16)) % (1 << 63)))


def why_not(network: nn.Module) -> str:
    """Why a network's weights cannot be drawn again; empty where they can."""
    leave = "leave this twin out: --twins untrained --twins rotated"
    if is_quantised(network):
        return f"the weights are quantised, packed by the library that reads them, and cannot be drawn again; {leave}"
    on_disk = next((name for name, weight in network.named_parameters() if weight.is_meta), "")
    return f"the weights {on_disk!r} lie on disk and cannot be drawn again; {leave}" if on_disk else ""


def _redrawn(weight: Tensor, seed: int) -> Tensor:
    """Gaussian numbers with a tensor's mean and variance."""
    values = weight.float()
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.device)
    redrawn: Tensor = values.mean() + values.std(correction=0) * noise
    return redrawn.to(weight.dtype)


DERIVED = {
    RERANDOMISED: DerivedTwin(
        rerandomise, "each weight tensor drawn again from a Gaussian with its own mean and variance, embeddings too"
    ),
    KEEPING_EMBEDDINGS: DerivedTwin(
        partial(rerandomise, keep_embeddings=True),
        "each weight tensor but the embeddings drawn again from a Gaussian with its own mean and variance",
    ),
}
