"""How well a model's last features serve a linear classifier: a strength that models of every training share.

The published strength axis mixes different accuracies: of supervised classifiers, of zero-shot classifiers that are
given the classes' names, of probes. Fitting the same linear classifier to every model's features on the same stimuli
makes them commensurable, whatever a model was trained for, and for classes that it never saw. It asks for several
images of each class.
"""

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg.compute.devices import all_finite
from thalweg.errors import reason
from thalweg.models.hooks import answer_in, first_tensor
from thalweg.stimuli.base import Stimuli, halves

LEAST_IMAGES = 2  # of a class in either half
LEAST_CLASSES = 0.5  # of the pool's, to be told apart; below, the question would be another one
MOST_FEATURES = 16_384  # in double precision and several copies, more of them would take most of a task's memory
STRENGTHS = tuple(10.0**power for power in range(-1, 7))  # of the ridge penalty, on standardised features


def probe(
    features: Float[Tensor, "stimulus feature"],
    labels: Int[Tensor, " stimulus"],
    reference: Int[Tensor, " reference"],
    query: Int[Tensor, " query"],
) -> tuple[float | None, str]:
    """The accuracy on the query half of a linear classifier fitted to the reference half, or none and the reason.

    A ridge regression on the classes' indicators, features standardised on the reference half, its penalty chosen there
    by leaving one out (scikit-learn's RidgeClassifierCV): it has one solution, whatever the computer. Classes with
    fewer than two images in either half are left out; at least half of them must remain.
    """
    counts = torch.stack([labels[half].long().bincount(minlength=int(labels.max()) + 1) for half in (reference, query)])
    known = (counts >= LEAST_IMAGES).all(0)
    classes = int((counts.sum(0) > 0).sum())
    if known.sum() < max(2, LEAST_CLASSES * classes):
        return None, (
            f"a probe needs {LEAST_IMAGES} images of a class in each half; {int(known.sum())} of {classes} classes have"
        )
    if features.ndim != 2 or not features.shape[1]:
        return None, "the model returned no tensor with a row of features for each stimulus"
    if features.shape[1] > MOST_FEATURES:
        return None, f"the model's last features are more than {MOST_FEATURES:,}, too many for a probe"
    if not all_finite(features):
        return None, "the features are not finite"
    reference, query = (half[known[labels[half].long()]] for half in (reference, query))
    try:
        return _fitted(features.double().numpy(), labels.numpy(), reference.numpy(), query.numpy()), ""
    except (ValueError, ArithmeticError) as wrong:  # a side column ends no run
        return None, f"the probe could not be fitted ({reason(wrong)})"


def _fitted(features: np.ndarray, labels: np.ndarray, reference: np.ndarray, query: np.ndarray) -> float:
    from sklearn.linear_model import RidgeClassifierCV

    mean, deviation = features[reference].mean(0), features[reference].std(0)
    scaled = (features - mean) / np.where(deviation > 1e-9, deviation, 1)
    classifier = RidgeClassifierCV(alphas=STRENGTHS).fit(scaled[reference], labels[reference])
    return float((classifier.predict(scaled[query]) == labels[query]).mean())


def halves_of_probe(labels: Int[Tensor, " stimulus"], stimuli: Stimuli) -> tuple[Tensor, Tensor]:
    """The reference and the query half as seed 0 deals them, whatever the survey's: models must share them."""
    reference, query = halves(stimuli, seed=0)
    return reference, query


@contextmanager
def last_features(model: nn.Module) -> Generator[dict[str, Tensor]]:
    """A dictionary whose `features` are, after each pass, what the model's last layer makes its output of.

    That is what the linear map that gives the output takes in, or the output itself where no linear map gives it (the
    image tower of CLIP gives an embedding); the mean over places or tokens where there are several. Of a model that
    returns several things, `logits` is the output, or else the first tensor.
    """
    seen: dict[str, Tensor] = {}
    ran: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, given: tuple[object, ...], named: dict[str, object], gave: object) -> None:
        taken = first_tensor([*given, *named.values()])
        if taken is not None and isinstance(gave, Tensor):
            ran.append((taken, gave))

    def end(_module: nn.Module, _given: object, output: object) -> None:
        answer = answer_in(output)
        if answer is not None:
            inputs = [given for given, gave in ran if gave is answer or gave.data_ptr() == answer.data_ptr()]
            seen["features"] = _over_last(inputs[-1]) if inputs else _of_output(answer)
        ran.clear()

    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in linear]
    handles.append(model.register_forward_hook(end))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _over_last(values: Float[Tensor, "stimulus *place feature"]) -> Float[Tensor, "stimulus feature"]:
    """The mean over places of what has its features on the last axis."""
    return values.flatten(1, -2).mean(1) if values.ndim > 2 else values


def _of_output(output: Float[Tensor, "stimulus ..."]) -> Float[Tensor, "stimulus feature"]:
    """The features of a model's output: tokens have them on the last axis, a map of channels on axis 1."""
    return output.flatten(2).mean(2) if output.ndim > 3 else _over_last(output)
