"""How strong a published vision model is: bits where it says the pool's labels, and a linear probe."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from thalweg.compute.devices import given, in_precision, placed
from thalweg.compute.memory import Pieces
from thalweg.errors import user_code
from thalweg.models.hooks import answer_in
from thalweg.models.loading import quiet
from thalweg.models.records import Evaluation, ReadRows
from thalweg.stimuli import modalities
from thalweg.stimuli.base import Stimuli
from thalweg.strength.axes import SHARE, from_logits
from thalweg.strength.probe import MOST_FEATURES, halves_of_probe, last_features, probe

NOTHING: dict[str, float | None] = {"loss": None, "bits": None, SHARE: None, "accuracy": None}


def _outputs(model: nn.Module, stimuli: Stimuli, *, device: str = "cpu") -> dict[str, Tensor]:
    """Of each stimulus, the model's logits, where it has one for each of the pool's classes, and its last features."""
    model = in_precision(placed(model.eval(), device), torch.float32)
    parts: list[Mapping[str, Tensor]] = []
    batch_size = modalities.of(stimuli).batch_size(device)
    pieces = Pieces(batch_size, device)

    def look(ids: Tensor) -> Mapping[str, Tensor]:
        with user_code("the model"):
            output = model(given(stimuli.batch(ids), device))
        return rows_of(ids, output)

    with torch.inference_mode(), _alongside(model, stimuli) as rows_of, quiet():
        for which in torch.arange(len(stimuli)).split(batch_size):
            parts += pieces(lambda part, which=which: look(which[part]), len(which))
    return {name: torch.cat([part[name] for part in parts]) for name in ("logits", "features")}


@contextmanager
def _alongside(model: nn.Module, stimuli: Stimuli) -> Generator[ReadRows]:
    """The same rows, of what the model returns in a pass that is made for something else."""
    with last_features(model) as seen:

        def rows_of(ids: Tensor, output: object) -> dict[str, Tensor]:
            logits = _rows(answer_in(output), len(ids), len(stimuli.label_names))
            last = _rows(seen.pop("features", None), len(ids))
            return {"logits": logits, "features": _at_most(last, MOST_FEATURES + 1)}

        yield rows_of


def _at_most(rows: Tensor, columns: int) -> Tensor:
    """The first columns alone, without the memory of the others; one more than expected shows that there are more."""
    return rows if rows.shape[1] <= columns else rows[:, :columns].clone()


def _rows(values: Tensor | None, rows: int, columns: int = 0) -> Tensor:
    """The values as so many rows, of so many `columns` if given; no columns where they have another shape."""
    fits = values is not None and values.ndim == 2 and len(values) == rows and not values.is_complex()
    if values is None or not fits or (columns and values.shape[1] != columns):
        return torch.empty(rows, 0)
    return values.float().cpu()


def _strength(outputs: Mapping[str, Tensor], stimuli: Stimuli) -> dict[str, float | str | None]:
    """How strong a published model is: as a classifier, where it tells the pool's classes apart, and by a linear probe.

    `loss`, `bits`, `share` and `accuracy` are missing where the number of its classes is not the pool's; the classes
    must be in the model's order. `probe` is the accuracy of a linear classifier on its last features, fitted on half of
    the stimuli and tested on the other; `probe_note` says why it is missing.
    """
    labels, logits = stimuli.labels.long(), outputs["logits"]
    fits = logits.ndim == 2 and logits.shape[1] == len(stimuli.label_names)
    strength = from_logits(logits, labels) if fits else NOTHING
    accuracy, note = probe(outputs["features"], labels, *halves_of_probe(labels, stimuli))
    return {**strength, "probe": accuracy, "probe_note": note or None}


published = Evaluation(_outputs, _strength, _alongside)
