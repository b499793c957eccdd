"""Training a TopK dictionary on a layer's values, as they stream from the model.

The model reads the stimuli in a random order, again and again; the values at all their places (at most 64 of a picture
or text at a time) go through a buffer that mixes them, and SAELens's TopK autoencoder (Gao et al. 2024: an auxiliary
loss wakes latents that have died) takes a step on each batch that leaves it. No more than the buffer and one forward
pass is ever held. Values are scaled to an average norm of sqrt(neurons), so that one learning rate does for all layers,
and the decoder's bias starts at their mean; the scale is folded into the weights at the end. What is written is
SAELens's layout, which `sae:FOLDER` reads.

A dictionary is assessed on stimuli that it was not trained on:

    explained variance   1 - sum |x - x'|^2 / sum |x - mean|^2
    dead                 the share of latents that no place of any of these stimuli activates
    loss recovered       (L_ablated - L_reconstructed) / (L_ablated - L_clean), where the layer's values are replaced by
                         their reconstruction, or ablated: by zeros, and by their mean

Limits: a small model's layer can be ablated at no cost, and then the last of these has no value.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg.bases import layouts
from thalweg.bases.assess import assess, unpooled
from thalweg.bases.dictionaries import Dictionary
from thalweg.bases.streaming import described, outputs, rows, widths
from thalweg.compute.devices import placed
from thalweg.errors import ThalwegError, check_utf8
from thalweg.files import whole
from thalweg.models.loading import loaded
from thalweg.models.records import Evaluate, Layer, Subject
from thalweg.packages import torchvision_first
from thalweg.stimuli.base import Splits, Stimuli, halves, viewed

ROOM = 1 << 17  # rows that wait in the buffer


@dataclass(frozen=True)
class Recipe:
    """How a dictionary is trained: so many rows in all, in batches, by Adam with warm-up and decay.

    A learning rate of 0 stands for 2e-4 / sqrt(latents / 2^14), as Gao et al. (2024, figure 3) found it to scale.
    `room` is how many rows the buffer holds, on the device.
    """

    rows: int = 4_000_000
    batch: int = 2048
    learning_rate: float = 0.0
    room: int = ROOM
    seed: int = 0

    @property
    def steps(self) -> int:
        """The number of batches."""
        return self.rows // self.batch

    def rate(self, latents: int) -> float:
        """The learning rate for so many latents."""
        return self.learning_rate or 2e-4 / (latents / 2**14) ** 0.5


def train_dictionary(
    model: nn.Module,
    layer: Layer,
    stimuli: Stimuli,
    ids: Int[Tensor, " stimulus"],
    *,
    latents: int,
    k: int,
    folder: Path,
    recipe: Recipe | None = None,
    device: str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> Dictionary:
    """Train a dictionary of so many latents, of which k are active at once, on the stimuli with these ids; write it to
    a folder and return it as read from there.

    `advance` is called after each step.

    Raises:
        ThalwegError: SAELens is not installed, the numbers do not fit each other, or the loss became NaN or infinite.
    """
    recipe = recipe or Recipe()
    check_request(folder, latents=latents, k=k, recipe=recipe)
    trainer_of, autoencoder_of = _library()
    values = next(outputs(model, [unpooled(layer)], stimuli, ids[:1], device=device))[layer.name]
    width, all_rows = values.shape[1], len(ids) * len(rows(values, torch.Generator()))
    recipe = replace(recipe, room=max(2 * recipe.batch, min(recipe.room, all_rows)))
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        autoencoder = autoencoder_of(width, latents, k, layer.name, device)
    source = endless(model, layer, stimuli, ids, recipe.seed, device=device)
    batches = shuffled(source, recipe)
    first = next(batches)
    scale = width**0.5 / float(first.norm(dim=1).mean().clamp_min(1e-30))
    with torch.no_grad():
        autoencoder.b_dec.copy_(first.mean(0) * scale)
    trainer = trainer_of(autoencoder, recipe, batches, device)
    trainer.activation_scaler.scaling_factor = scale
    _take_steps(trainer, batches, recipe.steps, layer.name, advance)
    batches.close()
    source.close()  # takes its hooks off the model
    autoencoder.fold_activation_norm_scaling_factor(scale)
    autoencoder.save_inference_model(folder)
    return layouts.read(folder)


def _take_steps(
    trainer: Any, batches: Iterator[Tensor], steps: int, layer_name: str, advance: Callable[[], None]
) -> None:
    """Take so many steps of the trainer, a batch each.

    Raises:
        ThalwegError: the loss became NaN or infinite.
    """
    for _ in range(steps):
        step = trainer.step(next(batches))
        trainer.n_training_steps += 1
        if trainer.n_training_steps % 100 == 0 and not step.loss.isfinite():
            raise ThalwegError(f"layer {layer_name!r}: the dictionary's loss is {float(step.loss)}; learn more slowly")
        advance()


def check_request(folder: Path, *, latents: int, k: int, recipe: Recipe) -> None:
    """Check a request before any work: the numbers, and whether the folder can be written to.

    Latents of 0 stand for a number that is not known yet.

    Raises:
        ThalwegError: the numbers do not fit each other, or nothing can be written to the folder, or something is there.
    """
    if latents and not 0 < k <= latents:
        raise ThalwegError(f"{k} active latents of {latents}: from 1 to {latents} can be active (--k, --latents)")
    if recipe.steps < 1:
        raise ThalwegError(
            f"{recipe.rows:,} rows are too few; at least one batch, {recipe.batch:,}, was expected (--rows)"
        )
    if recipe.batch > recipe.room // 2:
        raise ThalwegError(
            f"batches of {recipe.batch} through a buffer of {recipe.room}: a buffer of twice a batch was expected"
        )
    _check_folder(folder)


def _check_folder(folder: Path) -> None:
    """Make sure that a dictionary can be written to a folder, by writing a file there or where it will be made."""
    check_utf8(folder, "choose another folder with --out")
    try:
        if (folder / layouts.CONFIG).exists():
            raise ThalwegError(f"{folder}: a dictionary is there already; choose another folder with --out")
        if folder.is_dir() and any(folder.iterdir()):
            raise ThalwegError(f"{folder}: other files are there already; choose a new or an empty folder with --out")
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        with TemporaryFile(dir=there):
            pass
    except OSError as wrong:
        raise ThalwegError(
            f"{folder}: a dictionary can't be written there ({wrong.strerror or wrong}); choose a folder with --out"
        ) from wrong


def _library() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How SAELens makes a trainer and an autoencoder."""
    torchvision_first()
    try:
        from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.saes.sae import SAEMetadata
        from sae_lens.training.sae_trainer import SAETrainer
    except ImportError as missing:
        raise ThalwegError(
            f"training a dictionary needs SAELens ({missing}); install it: pip install 'thalweg[dictionary]'"
        ) from missing

    def autoencoder(width: int, latents: int, k: int, layer: str, device: str) -> Any:
        metadata = SAEMetadata(hook_name=layer)
        scaled = "expected_average_only_in"
        config = TopKTrainingSAEConfig(
            d_in=width, d_sae=latents, k=k, device=device, normalize_activations=scaled, metadata=metadata
        )
        return TopKTrainingSAE(config)

    def trainer(autoencoder: Any, recipe: Recipe, batches: Iterator[Tensor], device: str) -> Any:
        rate = recipe.rate(autoencoder.cfg.d_sae)
        config = SAETrainerConfig(
            total_training_samples=recipe.steps * recipe.batch,
            train_batch_size_samples=recipe.batch,
            lr=rate,
            lr_end=rate / 10,  # must be a number; without an annealing it is not used
            lr_warm_up_steps=recipe.steps // 20,
            lr_decay_steps=recipe.steps // 5,
            dead_feature_window=max(20, min(1000, recipe.steps // 10)),
            device=device,
            logger=LoggingConfig(log_to_wandb=False),
        )
        return SAETrainer(config, autoencoder, batches)

    return trainer, autoencoder


def endless(
    model: nn.Module, layer: Layer, stimuli: Stimuli, ids: Int[Tensor, " stimulus"], seed: int, *, device: str
) -> Generator[Float[Tensor, "row neuron"], None, None]:
    """Rows of the layer's values at all its places, a forward pass at a time, in another order each time round."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = ids[torch.randperm(len(ids), generator=generator)]
        for laid in outputs(model, [unpooled(layer)], stimuli, order, device=device):
            yield rows(laid[layer.name], generator)


def _finite(values: Tensor) -> Tensor:
    if not values.isfinite().all():
        raise ThalwegError("the layer gave values that are NaN or infinite; no dictionary can be trained on them")
    return values


def shuffled(
    source: Iterator[Float[Tensor, "row neuron"]], recipe: Recipe
) -> Generator[Float[Tensor, "batch neuron"], None, None]:
    """Batches drawn from a buffer that is filled up from the source whenever half of it has left."""
    generator = torch.Generator().manual_seed(recipe.seed)
    waiting: list[Tensor] = []
    held = 0
    for block in source:
        waiting.append(block)
        held += len(block)
        if held < recipe.room:
            continue
        mixed = _finite(torch.cat(waiting))[torch.randperm(held, generator=generator).to(block.device)]
        leaving = max(held // 2, held - recipe.room // 2) // recipe.batch * recipe.batch
        yield from mixed[:leaving].split(recipe.batch)
        waiting = [mixed[leaving:].clone()]
        held -= leaving


def train_for_subject(
    subject: Subject,
    splits: Splits,
    layer_name: str,
    out: Path,
    *,
    latents: int = 0,
    k: int = 32,
    recipe: Recipe | None = None,
    evaluate: Evaluate | None = None,
    device: str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> dict[str, float | int | str | None]:
    """Train a dictionary on a layer of a model that exists already, write it to the folder `out`, and return a summary,
    which is written there as `training.json`.

    It is trained on the training stimuli and assessed on the validation stimuli; without these, on the two halves of
    the pool that a survey with this seed makes. By default it has eight latents for each neuron. `evaluate` is as in
    `Ladder`; without it no loss is recovered.

    Raises:
        ThalwegError: as `train_dictionary` does, and a layer that the model does not have.
    """
    recipe = recipe or Recipe()
    started = time.perf_counter()
    trained_on, held_out = _parts(subject, splits, recipe.seed)
    model = placed(loaded(subject), device)
    layer = next((known for known in subject.layers if known.name == layer_name), None)
    layer = layer or described(layer_name, model, trained_on, device=device)
    ids = torch.arange(len(trained_on))
    width = widths(model, [layer], trained_on, ids, device=device)[layer.name]
    latents = latents or 8 * width
    dictionary = train_dictionary(
        model, layer, trained_on, ids, latents=latents, k=k, folder=out, recipe=recipe, device=device, advance=advance
    )
    summary = _summary(subject.name, layer.name, dictionary, k, recipe, (len(trained_on), len(held_out)))
    summary |= assess(model, layer, dictionary, held_out, evaluate=evaluate, device=device)
    summary["seconds"] = round(time.perf_counter() - started, 1)
    whole.write_json(out / "training.json", summary)
    return summary


def _summary(
    subject_name: str, layer_name: str, dictionary: Dictionary, k: int, recipe: Recipe, stimuli: tuple[int, int]
) -> dict[str, float | int | str | None]:
    """What a dictionary was trained on, and its size; `stimuli` counts those for training and for assessment."""
    return {
        "subject": subject_name,
        "layer": layer_name,
        "neurons": dictionary.neurons,
        "latents": dictionary.latents,
        "k": k,
        "rows": recipe.steps * recipe.batch,
        "stimuli": stimuli[0],
        "held_out": stimuli[1],
    }


def _parts(subject: Subject, splits: Splits, seed: int) -> tuple[Stimuli, Stimuli]:
    """The stimuli that a dictionary is trained on and those that it is assessed on, as the model is given them."""
    parts = (splits.train, splits.validation)
    if not all(map(len, parts)):
        reference, query = halves(splits.pool, seed=seed)
        parts = (splits.pool.take(reference), splits.pool.take(query))
    if not all(map(len, parts)):
        raise ThalwegError(f"subject {subject.name!r}: there are no stimuli to train a dictionary on")
    trained_on, held_out = (viewed(part, subject.view) for part in parts)
    return trained_on, held_out
