"""The linear algebra of ROME and MEMIT: which change of a matrix makes it map some keys to other values.

A multilayer perceptron's output projection W is read as an associative memory: a key k (the activations that it is
given at one token) is mapped to a value W k, which is added to the residual stream. W was fitted to many keys, the
columns of K_0, and their values. Their second moments C = E[k k^T] are all that the updates need of them. Values are
changed by deltas: the new value of key k is W k + delta.

**One fact (ROME, Meng et al. 2022, equation 2).** The least change of what W does with its old keys, with the new value
met exactly: minimise E|D k|^2 = tr(D C D^T) over D, with D k = delta. The Lagrangian's derivative, 2 D C - l k^T, is 0
where D = l (C^-1 k)^T / 2, and the constraint gives l: D = delta (C^-1 k)^T / (k^T C^-1 k), of rank one.

**Many facts (MEMIT, Meng et al. 2023, equations 12 to 14).** With keys K = [k_1 ...] and deltas R = [delta_1 ...] as
columns, minimise w tr(D C D^T) + |D K - R|^2: D (w C + K K^T) = R K^T. The weight w says how much the old keys count
beside the new ones. For one fact the Sherman-Morrison formula gives D = ROME's update times s / (w + s) with
s = k^T C^-1 k, so ROME is the limit w -> 0.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from thalweg.compute.devices import all_finite
from thalweg.errors import ThalwegError

LEAST = 1e-12  # of the largest eigenvalue: below, second moments are singular in double precision


def rome(
    moments: Float[Tensor, "key key"], key: Float[Tensor, " key"], delta: Float[Tensor, " value"]
) -> Float64[Tensor, "value key"]:
    """ROME's update for one fact: the change of W that gives a key a new value, and changes the old ones least.

    Args:
        moments: Second moments C of the old keys.
        key: The key whose value changes.
        delta: What is added to its value.

    Returns:
        delta (C^-1 k)^T / (k^T C^-1 k), to be added to W.

    Raises:
        ThalwegError: The second moments are singular or not finite, or the key is zero.

    Source:
        Meng, Bau, Andonian and Belinkov 2022, Locating and Editing Factual Associations in GPT, equation 2.

    Example:
        >>> import torch
        >>> from thalweg.edits import updates
        >>> updates.rome(torch.eye(2), torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0])).tolist()
        [[0.5, 0.0], [1.5, 0.0]]
    """
    return torch.outer(delta.double(), rome_directions(moments, key[None])[0])


def rome_directions(moments: Float[Tensor, "key key"], keys: Float[Tensor, "fact key"]) -> Float64[Tensor, "fact key"]:
    """What ROME's update for each fact does to keys: C^-1 k / (k^T C^-1 k).

    Raises:
        ThalwegError: The second moments are singular or not finite, or a key is zero.
    """
    solved = solve(moments, keys.T).T
    sizes = (solved * keys.double()).sum(1, keepdim=True)
    if not bool((sizes > 0).all()):
        raise ThalwegError("the key of a fact is zero: no update of the layer can change its value; edit another layer")
    return solved / sizes


def memit(
    moments: Float[Tensor, "key key"],
    keys: Float[Tensor, "fact key"],
    deltas: Float[Tensor, "fact value"],
    weight: float,
) -> Float64[Tensor, "value key"]:
    """MEMIT's update for many facts at once.

    Args:
        moments: Second moments C of the old keys.
        keys: A key for each fact.
        deltas: What is added to the values of each.
        weight: How much the old keys count, above 0.

    Returns:
        R K^T (w C + K K^T)^-1, to be added to W.

    Raises:
        ThalwegError: The second moments are singular or not finite.

    Source:
        Meng, Sen Sharma, Andonian, Belinkov and Bau 2023, Mass-Editing Memory in a Transformer, equation 14.

    Example:
        >>> import torch
        >>> from thalweg.edits import updates
        >>> updates.memit(torch.eye(2), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0]]), weight=1.0).tolist()
        [[1.0, 0.0]]
    """
    columns, added = keys.double().T, deltas.double().T
    check_moments(moments)
    both = weight * moments.double() + columns @ columns.T
    change: Tensor = torch.linalg.solve(both, columns @ added.T).T
    return change


def solve(moments: Float[Tensor, "key key"], columns: Float[Tensor, "key column"]) -> Float64[Tensor, "key column"]:
    """C^-1 times some columns, in double precision.

    Raises:
        ThalwegError: C is singular or not finite.
    """
    check_moments(moments)
    solved: Tensor = torch.linalg.solve(moments.double(), columns.double())
    return solved


def check_moments(moments: Float[Tensor, "key key"], where: str = "a layer") -> None:
    """Check that second moments can be inverted.

    Raises:
        ThalwegError: they are singular or not finite; says what helps.
    """
    if not all_finite(moments):
        raise ThalwegError(f"the second moments of {where} are not finite: the model's activations overflow there")
    values = torch.linalg.eigvalsh(moments.double())
    if not float(values[0]) > LEAST * float(values[-1]):
        rank = int((values > LEAST * values[-1]).sum())
        raise ThalwegError(
            f"the second moments of {where} are singular: {rank} of {len(values)} directions occur in the text; give "
            "more text (--tokens), or a ridge (--ridge .01)"
        )


def with_ridge(moments: Float[Tensor, "key key"], ridge: float) -> Float64[Tensor, "key key"]:
    """Second moments with a share of their mean eigenvalue added to all eigenvalues."""
    double = moments.double()
    return double + ridge * double.diagonal().mean() * torch.eye(len(double), dtype=torch.float64)
