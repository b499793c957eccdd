"""What cannot be measured of a model because there are no labels, or no losses: found out before it is trained.

Strength in bits needs logits for the labels, or an evaluation of the ladder's own; without either a model is refused.
Whatever else needs them is left out with the reason.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from thalweg.capability.answers import NO_LOGITS, Missing, answers_to
from thalweg.compute.devices import PRECISIONS, given, in_precision, placed
from thalweg.errors import ThalwegError
from thalweg.factors.memorisation import ASKED
from thalweg.files.identity import is_packaged
from thalweg.models.hooks import answer_in
from thalweg.models.records import Ladder
from thalweg.pipeline.capability import NO_NEURONS
from thalweg.pipeline.job import Model
from thalweg.pipeline.retraining import NO_ANSWERS, why_not
from thalweg.recording.readout import NEURONS
from thalweg.stimuli.base import Stimuli
from thalweg.strength.axes import LEAST_ENTROPY, entropy

FEW = 4  # stimuli that a model is given
STRENGTH = "all stimuli have the same label, so bits and accuracy say nothing of strength"


def check_labels(network: nn.Module, model: Model) -> list[str]:
    """What is left out of the measurements of a model, each with its reason.

    Args:
        network: The model, untrained.
        model: What is asked of it.

    Raises:
        ThalwegError: Its strength needs labels, and it gives no logits for them.
    """
    stimuli = model.pool.take(torch.arange(min(FEW, len(model.pool))))
    device, precision = model.settings.resolved_device, PRECISIONS[model.settings.precision]
    network = in_precision(placed(network.eval(), device), precision)
    with torch.inference_mode():
        output = network(given(stimuli.batch(slice(None)), device, precision))
    by_labels = model.ladder.evaluate is None and "trained" not in model.strengths
    if by_labels:
        _check_logits(output, stimuli)
    return [*_left_out(answer_in(output), stimuli, model), *_without_loss(network, stimuli, model)]


def for_rungs(ladder: Ladder, left_out: Mapping[str, Sequence[str]], n_rungs: int) -> list[str]:
    """What is left out, a line each, which names the rungs unless it is so of all of the ladder's."""
    names = ["" if len(rungs) == n_rungs else f", {', '.join(rungs)}" for rungs in left_out.values()]
    return [f"ladder {ladder.name!r}{of}: {text}" for of, text in zip(names, left_out, strict=True)]


def _check_logits(output: object, stimuli: Stimuli) -> None:
    """Check that a model whose strength is that of a classifier gives a number for each label."""
    expected = (len(stimuli), len(stimuli.label_names))
    if not isinstance(output, Tensor) or output.shape != expected:
        returned = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ThalwegError(
            f"the model returned {returned}; its strength is weighed by the labels of its stimuli, so logits of shape "
            f"{expected} were expected, one for each label; for models that say something else give the ladder an "
            "`evaluate`"
        )


def _left_out(logits: Tensor | None, stimuli: Stimuli, model: Model) -> Iterator[str]:
    """What is left out for want of labels."""
    one_label = not hasattr(stimuli, "following") and entropy(model.pool.labels.long()) < LEAST_ENTROPY
    if one_label and model.ladder.evaluate is None:
        yield STRENGTH
    if model.settings.weighs_capability and (reason := _why_no_capability(logits, stimuli, model)):
        yield f"total interpretable capability (--capability) is left out: {reason}"
    if ASKED in model.settings.factors:
        classes = logits is not None and logits.shape == (len(stimuli), len(stimuli.label_names))
        if reason := why_not(model, "trained") or ("" if classes else NO_ANSWERS):
            yield f"{ASKED} (--factors {ASKED}) is left out: {reason}"


def _why_no_capability(logits: Tensor | None, stimuli: Stimuli, model: Model) -> str:
    """Why a model's capability cannot be weighed; empty where it can."""
    if model.basis != NEURONS:
        return NO_NEURONS
    try:
        answers = answers_to(stimuli, model.pool)
        if logits is None or logits.ndim < 2:
            raise Missing(NO_LOGITS)
        answers.for_logits(logits)
    except Missing as missing:
        return f"it needs logits for labels that differ, or for next tokens; {missing}"
    return ""


def _without_loss(network: nn.Module, stimuli: Stimuli, model: Model) -> Iterator[str]:
    """What is left out because the ladder's own evaluation gives no loss; whatever else is wrong with it shows later,
    on more stimuli.
    """
    evaluate = model.ladder.evaluate
    if evaluate is None or is_packaged(evaluate) or model.subject:
        return
    try:
        result = evaluate(network, stimuli, device=model.settings.resolved_device)
    except Exception:
        return
    if isinstance(result, Mapping) and result.get("loss") is None:
        yield "generalisation_gap_bits is left out: the ladder's `evaluate` returns no `loss`, in nats, by the labels"
