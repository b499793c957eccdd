"""Training a TopK dictionary on a layer's values, as they stream from the model.

The model reads the stimuli in a random order, again and again; the values at all their places (at most 64 of a picture
or text at a time) go through a buffer that mixes them, and SAELens's TopK autoencoder (Gao et al. 2024: an auxiliary
loss wakes latents that have died) takes a step on each batch that leaves it. No more than the buffer and one forward
pass is ever held. Values are scaled to an average norm of sqrt(neurons), so that one learning rate does for all layers,
and the decoder's bias starts at their mean; the scale is folded into the weights at the end. What is written is
SAELens's layout, which `sae:FOLDER` reads.

Places where a language model sinks its attention are left out first (`sinks`): they would be all that is learned.

A dictionary is assessed on stimuli that it was not trained on, at the places that are measured and at the others:

    explained variance   1 - sum |x - x'|^2 / sum |x - mean|^2
    dead                 the share of latents that no place of any of these stimuli activates
    loss recovered       (L_ablated - L_reconstructed) / (L_ablated - L_clean), where the layer's values are replaced by
                         their reconstruction, or ablated: by zeros, and by their mean; places left out stay as they are

One that explains less than nothing where it is measured is not kept. The numbers are written beside the dictionary, to
`training.json`, and in sentences to `README.md`.

Limits: a small model's layer can be ablated at no cost, and then the last of these has no value.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.bases import layouts
from thalweg.bases.assess import assess, unpooled
from thalweg.bases.dictionaries import Dictionary
from thalweg.bases.notes import notes
from thalweg.bases.sinks import SkippedPlaces, skipped_places
from thalweg.bases.streaming import described, outputs, rows
from thalweg.compute.devices import all_finite, placed
from thalweg.errors import ThalwegError, check_utf8
from thalweg.files import whole
from thalweg.models.loading import loaded
from thalweg.models.records import Evaluate, Layer, Subject
from thalweg.packages import prepare_torchvision
from thalweg.progress import Progress, Silent
from thalweg.recording.memory import GIB, available_memory
from thalweg.stimuli.base import Splits, Stimuli, halves, viewed

Summary = dict[str, float | int | str | None]
ROOM = 1 << 17  # rows that wait in the buffer
EXPANSION = 8  # latents for each neuron, where no number is given
SMALLEST_BATCH, LARGEST_BATCH = 128, 2048
STEPS = 1000  # at least, where there are rows enough: a few hundred steps, however large, teach a dictionary little


@dataclass(frozen=True)
class Recipe:
    """How a dictionary of so many latents, of which k are active at once, is trained: on so many rows in all, in
    batches, by Adam with warm-up and decay.

    Latents of 0 stand for eight for each neuron; a learning rate of 0 for 2e-4 / sqrt(latents / 2^14), as Gao et al.
    (2024, figure 3) found it to scale.
    `room` is how many rows the buffer holds, on the device. `skip_places` are left out at the beginning of each
    stimulus; None: those that are found to be attention sinks.
    """

    latents: int = 0
    k: int = 32
    rows: int = 4_000_000
    batch: int = LARGEST_BATCH
    learning_rate: float = 0.0
    room: int = ROOM
    seed: int = 0
    device: str = "cpu"
    skip_places: int | None = None

    @property
    def steps(self) -> int:
        """The number of batches."""
        return self.rows // self.batch

    @property
    def rate(self) -> float:
        """The learning rate for so many latents."""
        return self.learning_rate or 2e-4 / (self.latents / 2**14) ** 0.5


def batch_for(rows: int) -> int:
    """The largest batch, a power of two from 128 to 2048, of which so many rows make a thousand steps; else 128."""
    sizes = [LARGEST_BATCH]
    while sizes[-1] > SMALLEST_BATCH and rows // sizes[-1] < STEPS:
        sizes.append(sizes[-1] // 2)
    return sizes[-1]


def train_dictionary(
    model: nn.Module,
    layer: Layer,
    stimuli: Stimuli,
    folder: Path,
    recipe: Recipe,
    *,
    advance: Callable[[], None] = lambda: None,
) -> Dictionary:
    """Train a dictionary on the stimuli; write it to a folder and return it as read from there.

    `advance` is called after each step.

    Raises:
        ThalwegError: SAELens is not installed, the numbers do not fit each other, or the loss became NaN or infinite.
    """
    check_request(folder, recipe)
    trainer_of, autoencoder_of = _library()
    first_of = torch.arange(1)
    values = next(outputs(model, [unpooled(layer)], stimuli, first_of, device=recipe.device))[layer.name]
    width, all_rows = values.shape[1], len(stimuli) * len(rows(values, torch.Generator()))
    room = max(2 * recipe.batch, min(recipe.room, all_rows))
    recipe = replace(recipe, latents=recipe.latents or EXPANSION * width, room=room)
    check_numbers(recipe)
    _check_memory(width, recipe)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        autoencoder = autoencoder_of(width, recipe, layer.name)
    source = endless(model, layer, stimuli, recipe)
    batches = shuffled(source, recipe)
    first = next(batches)
    scale = width**0.5 / float(first.norm(dim=1).mean().clamp_min(1e-30))
    with torch.no_grad():
        autoencoder.b_dec.copy_(first.mean(0) * scale)
    trainer = trainer_of(autoencoder, recipe, batches)
    trainer.activation_scaler.scaling_factor = scale
    _take_steps(trainer, batches, recipe.steps, layer.name, advance)
    batches.close()
    source.close()  # takes its hooks off the model
    autoencoder.fold_activation_norm_scaling_factor(scale)
    autoencoder.save_inference_model(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod((folder / layouts.CONFIG).stat().st_mode)  # safetensors makes files that nobody else may read
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


def check_request(folder: Path, recipe: Recipe) -> None:
    """Check a request before any work: the numbers, and whether the folder can be written to.

    Raises:
        ThalwegError: the numbers do not fit each other, or nothing can be written to the folder, or something is there.
    """
    check_numbers(recipe)
    _check_folder(folder)


def check_numbers(recipe: Recipe) -> None:
    """Check that a recipe's numbers fit each other.

    Raises:
        ThalwegError: they do not.
    """
    if recipe.latents and not 0 < recipe.k <= recipe.latents:
        raise ThalwegError(
            f"{recipe.k} active latents of {recipe.latents}: from 1 to {recipe.latents} can be active (--k, --latents)"
        )
    if recipe.steps < 1:
        raise ThalwegError(
            f"{recipe.rows:,} rows are too few; at least one batch, {recipe.batch:,}, was expected (--rows)"
        )
    if recipe.batch > recipe.room // 2:
        raise ThalwegError(
            f"batches of {recipe.batch} through a buffer of {recipe.room}: a buffer of twice a batch was expected"
        )


def _check_memory(width: int, recipe: Recipe) -> None:
    """Check that a dictionary can be trained in memory: encoder and decoder, each with gradients and Adam's two
    moments, and the latents of a batch, before and after those that are not active are left out.

    Raises:
        ThalwegError: there is less.
    """
    need, there = 4 * recipe.latents * (2 * 4 * width + 2 * recipe.batch), available_memory()
    if recipe.device == "cpu" and there is not None and need > there:
        raise ThalwegError(
            f"training {recipe.latents:,} latents of {width:,} neurons needs about {need / GIB:,.1f} GB of memory, and "
            f"{there / GIB:.1f} GB are free; take fewer (--latents)"
        )


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
    prepare_torchvision()
    try:
        from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.saes.sae import SAEMetadata
        from sae_lens.training.sae_trainer import SAETrainer
    except ImportError as missing:
        raise ThalwegError(
            f"training a dictionary needs SAELens ({missing}); install it: pip install 'thalweg[dictionary]'"
        ) from missing

    def autoencoder(width: int, recipe: Recipe, layer: str) -> Any:
        metadata = SAEMetadata(hook_name=layer)
        scaled = "expected_average_only_in"
        config = TopKTrainingSAEConfig(
            d_in=width,
            d_sae=recipe.latents,
            k=recipe.k,
            device=recipe.device,
            normalize_activations=scaled,
            metadata=metadata,
        )
        return TopKTrainingSAE(config)

    def trainer(autoencoder: Any, recipe: Recipe, batches: Iterator[Tensor]) -> Any:
        config = SAETrainerConfig(
            total_training_samples=recipe.steps * recipe.batch,
            train_batch_size_samples=recipe.batch,
            lr=recipe.rate,
            lr_end=recipe.rate / 10,  # must be a number; without an annealing it is not used
            lr_warm_up_steps=recipe.steps // 20,
            lr_decay_steps=recipe.steps // 5,
            dead_feature_window=max(20, min(1000, recipe.steps // 10)),
            device=recipe.device,
            logger=LoggingConfig(log_to_wandb=False),
        )
        return SAETrainer(config, autoencoder, batches)

    return trainer, autoencoder


def endless(
    model: nn.Module, layer: Layer, stimuli: Stimuli, recipe: Recipe
) -> Generator[Float[Tensor, "row neuron"], None, None]:
    """Rows of the layer's values at all its places, a forward pass at a time, in another order each time round."""
    generator = torch.Generator().manual_seed(recipe.seed)
    while True:
        order = torch.randperm(len(stimuli), generator=generator)
        for laid in outputs(model, [unpooled(layer)], stimuli, order, device=recipe.device):
            yield rows(laid[layer.name], generator)


def _finite(values: Tensor) -> Tensor:
    if not all_finite(values):
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
    recipe: Recipe,
    *,
    evaluate: Evaluate | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Train a dictionary on a layer of a model that exists already, write it to the folder `out`, and return a summary,
    which is written there as `training.json` and, in sentences, as `README.md`.

    It is trained on the training stimuli and assessed on the validation stimuli; without these, on the two halves of
    the pool that a survey with this seed makes. `evaluate` is as in `Ladder`; without it no loss is recovered.

    Raises:
        ThalwegError: as `train_dictionary` does, a layer that the model does not have, and a dictionary that explains
            less than nothing where it is measured.
    """
    started = time.perf_counter()
    progress = progress or Silent()
    trained_on, held_out = _parts(subject, splits, recipe.seed)
    model = placed(loaded(subject), recipe.device)
    layer = next((known for known in subject.layers if known.name == layer_name), None)
    layer = layer or described(layer_name, model, trained_on, device=recipe.device)
    skipped = skipped_places(model, layer, trained_on, recipe.skip_places, seed=recipe.seed, device=recipe.device)
    if skipped.count:
        progress.say(f"{skipped.count} of {skipped.places} places are left out: {skipped.reason}")
    layer = replace(layer, skip=layer.skip + skipped.count)
    with progress.stage("dictionary", recipe.steps) as advance:
        dictionary = train_dictionary(model, layer, trained_on, out, recipe, advance=advance)
    summary = _summary(subject.name, layer, dictionary, recipe, skipped)
    summary |= {"stimuli": len(trained_on), "held_out": len(held_out)}
    summary |= assess(model, layer, dictionary, held_out, evaluate=evaluate, device=recipe.device)
    _check_use(out, layer, summary)
    summary["seconds"] = round(time.perf_counter() - started, 1)
    whole.write_json(out / "training.json", summary)
    whole.write_text(out / "README.md", notes(summary))
    return summary


def _summary(
    subject_name: str, layer: Layer, dictionary: Dictionary, recipe: Recipe, skipped: SkippedPlaces
) -> Summary:
    """What a dictionary was trained on, and its size."""
    return {
        "subject": subject_name,
        "layer": layer.name,
        "measured_places": "last" if layer.reduction == "last" else "all",
        "skipped_places": skipped.count,
        "skipped_because": skipped.reason,
        "neurons": dictionary.neurons,
        "latents": dictionary.latents,
        "k": recipe.k,
        "rows": recipe.steps * recipe.batch,
    }


def _check_use(out: Path, layer: Layer, summary: Summary) -> None:
    """Make sure that a dictionary is of use where it is measured; one that is not is taken away again.

    Raises:
        ThalwegError: it explains less there than the mean of the values does.
    """
    explained = summary["explained_variance_measured"]
    if not isinstance(explained, float) or explained >= 0:
        return
    for name in (layouts.CONFIG, layouts.SAELENS):
        (out / name).unlink()
    at_last, other = layer.reduction == "last", summary["explained_variance_elsewhere"]
    elsewhere = f" ({other:.3g} elsewhere)" if at_last and isinstance(other, float) else ""
    raise ThalwegError(
        f"layer {layer.name!r}: the dictionary explains {explained:.3g} of the variance at "
        f"{'the last place, which is measured' if at_last else 'the places that are measured'}{elsewhere}; that is "
        "less than their mean does, so it was not kept; train it on more rows (--rows), or leave out more places at "
        "the beginning (--skip-places)"
    )


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
