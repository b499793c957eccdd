"""Published families of language models: GPT-2, Pythia, and one Pythia model through its training.

Here the rungs were trained by others, all on the same text and for equally long. They differ only in size (GPT-2:
Radford et al. 2019) or in how far the training was (Pythia: Biderman et al. 2023, whose checkpoints are published as
revisions). Of Pythia's two families the deduplicated one is taken: no passage of its text was seen many times, so a
unit that recognises a passage by heart is rarer. All models of a family read the same tokens, so all are measured on
the same windows; strength is bits per byte gained over the unigram model.

A ladder is made without its files, from what is known of the models: how many blocks each has, and how their modules
are spelt. All files are looked for when the stimuli are prepared, before the long work; one error names every file that
is missing. A number after the ladder's name leaves out what is larger (`gpt2:355`, `pythia:410`, in millions of
parameters, by the models' names); for `pythia-training` it says which size it is whose training is followed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from thalweg.bases.latents import Latents
from thalweg.downloads.missing import gathered
from thalweg.errors import ThalwegError
from thalweg.ladders.words import MOST
from thalweg.models.records import Ladder, Layer, Rung, Subject
from thalweg.models.rerandomised import WITH_RERANDOMISED
from thalweg.stimuli import corpus
from thalweg.stimuli.base import Source, Splits
from thalweg.strength.language import evaluate
from thalweg.subjects import checkpoints, language, transformers_models
from thalweg.subjects.checkpoints import Checkpoint
from thalweg.subjects.language_layers import Activation, in_block

GPT2_SIZES = {124: ("gpt2", 12), 355: ("gpt2-medium", 24), 774: ("gpt2-large", 36), 1558: ("gpt2-xl", 48)}
GPT2_OWNER = "openai-community"
GPT2_MODULES = {"attn.c_proj", "mlp.c_fc", "mlp.c_proj"}
PYTHIA_SIZES = {
    70: ("70m", 6),
    160: ("160m", 12),
    410: ("410m", 24),
    1000: ("1b", 16),
    1400: ("1.4b", 24),
    2800: ("2.8b", 32),
    6900: ("6.9b", 32),
    12000: ("12b", 36),
}  # in millions of parameters: the name and the number of blocks (Biderman et al. 2023, table 1)
PYTHIA_OWNER = "EleutherAI"
PYTHIA_MODULES = {"attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"}
QUICK = 1000  # millions of parameters: what is smaller, a quick survey takes
FOLLOWED = 160  # millions of parameters of the model whose training is followed: the second of the family
STEPS = (0, 1, 4, 16, 64, 256, 512, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 143_000)  # the last: fully trained
QUICK_STEPS = (0, 64, 256, 512, 1000, 2000, 4000, 8000)


@dataclass(frozen=True)
class Family:
    """How the modules of a family's models are spelt, with what follows its neurons."""

    blocks: str
    modules: frozenset[str]
    activation: Activation

    def layers(self, blocks: int) -> tuple[Layer, ...]:
        """The layers of a model with so many blocks."""
        return tuple(
            Layer(layer.name, layer.reduction, layer.nonlinearity, layer.unit_axis, max_units=MOST)
            for block in range(blocks)
            for layer in in_block(f"{self.blocks}.{block}", set(self.modules), self.activation)
        )


OF_GPT2 = Family("transformer.h", frozenset(GPT2_MODULES), Activation("gelu_new"))
OF_PYTHIA = Family("gpt_neox.layers", frozenset(PYTHIA_MODULES), Activation("gelu"))


def gpt2(largest: int = 1558, *, length: int = corpus.LENGTH) -> Ladder:
    """GPT-2 from small to XL, or to the largest that has no more than so many million parameters.

    Raises:
        ThalwegError: none is as small.
    """
    sizes = up_to("gpt2", largest, GPT2_SIZES)
    rungs = [
        rung_of(Checkpoint(f"{GPT2_OWNER}/{name}"), OF_GPT2.layers(blocks), quick=size < QUICK)
        for size, (name, blocks) in GPT2_SIZES.items()
        if size in sizes
    ]
    name = "gpt2" if len(sizes) == len(GPT2_SIZES) else f"gpt2:{largest}"
    return ladder_of(name, rungs, f"GPT-2, from {sizes[0]} to {sizes[-1]} million parameters", length)


def pythia(largest: int = 12_000, *, length: int = corpus.LENGTH) -> Ladder:
    """Pythia, deduplicated, from 70 million to 12 billion parameters, or to the largest with no more than so many
    million.

    Raises:
        ThalwegError: none is as small.
    """
    sizes = up_to("pythia", largest, PYTHIA_SIZES)
    rungs = [
        rung_of(Checkpoint(_pythia_name(size)), OF_PYTHIA.layers(PYTHIA_SIZES[size][1]), quick=size < QUICK)
        for size in sizes
    ]
    name = "pythia" if len(sizes) == len(PYTHIA_SIZES) else f"pythia:{largest}"
    description = f"Pythia (deduplicated), from {sizes[0]} to {sizes[-1]} million parameters"
    return ladder_of(name, rungs, description, length)


def pythia_training(size: int = FOLLOWED, *, length: int = corpus.LENGTH) -> Ladder:
    """One model of Pythia, deduplicated, of so many million parameters, at log-spaced steps of its training.

    Raises:
        ThalwegError: there is no model of this size.
    """
    if size not in PYTHIA_SIZES:
        there_are = _sizes(PYTHIA_SIZES)
        raise ThalwegError(f"ladder 'pythia-training': there is no Pythia of {size} million parameters; {there_are}")
    layers = OF_PYTHIA.layers(PYTHIA_SIZES[size][1])
    rungs = [
        rung_of(Checkpoint(_pythia_name(size), f"step{step}"), layers, quick=step in QUICK_STEPS, step=step)
        for step in STEPS
    ]
    name = "pythia-training" if size == FOLLOWED else f"pythia-training:{size}"
    description = (
        f"Pythia of {size} million parameters (deduplicated), from step {STEPS[0]} to {STEPS[-1]} of its training"
    )
    return ladder_of(name, rungs, description, length, one_run=True)


def ladder_of(name: str, rungs: Sequence[Rung], description: str, length: int, *, one_run: bool = False) -> Ladder:
    """A ladder of published models on windows of so many of their tokens."""
    return Ladder(
        name=name,
        rungs=tuple(rungs),
        splits=partial(splits, first=_checkpoint(rungs[0]), length=length),
        description=description,
        modality="text",
        evaluate=evaluate,
        controls=("untrained", "rotated") if one_run else WITH_RERANDOMISED,
        require=require,
        one_run=one_run,
    )


def _pythia_name(size: int) -> str:
    return f"{PYTHIA_OWNER}/pythia-{PYTHIA_SIZES[size][0]}-deduped"


def up_to(ladder: str, largest: int, known: Iterable[int]) -> list[int]:
    """The sizes of a family up to the largest, in millions of parameters.

    Raises:
        ThalwegError: none is as small.
    """
    sizes = [size for size in known if size <= largest]
    if not sizes:
        raise ThalwegError(f"ladder {ladder!r}: no model has {largest} million parameters or fewer; {_sizes(known)}")
    return sizes


def _sizes(known: Iterable[int]) -> str:
    return f"there are models of {', '.join(map(str, known))} million"


def rung_of(
    checkpoint: Checkpoint, layers: tuple[Layer, ...], *, quick: bool, step: int = 0, basis: Latents | None = None
) -> Rung:
    """A rung that finds its files when it is loaded, and its dictionaries too, if it has any."""
    subject = Subject(
        name=checkpoint.short,
        load=partial(transformers_models.load, checkpoint),
        layers=layers,
        build=partial(transformers_models.build, checkpoint),
        kind="transformer",
        modality="text",
        weights=partial(checkpoints.weights, checkpoint),
        tokenizer=partial(transformers_models.tokenizer, checkpoint),
        check=partial(language.check_windows, checkpoint),
    )
    build = partial(transformers_models.build, checkpoint)
    return Rung(subject.name, subject.kind, build, layers, quick, None, step, subject, basis)


def require(rungs: Sequence[Rung]) -> None:
    """Look for the files of all rungs.

    Raises:
        ThalwegError: files of some models are missing; says of which, and where they were expected.
    """
    lacking = {rung.name: _wanting(rung) for rung in rungs}
    missing = [absent for each in lacking.values() for absent in each]
    if missing:
        first = (
            f"{sum(map(bool, lacking.values()))} of {len(rungs)} models are not whole on this machine. A number after "
            "the ladder's name asks for less (gpt2:355, pythia:410, pythia-training:70)."
        )
        raise gathered("\n".join([first, *map(str, missing)]), missing)


def splits(source: Source, seed: int, *, first: Checkpoint, length: int) -> Splits:
    """Windows for all models of a family: their tokenizer is the same, so the first one's is taken."""
    return corpus.splits(source, seed, length=length, tokenizer=transformers_models.tokenizer(first))


def _checkpoint(rung: Rung) -> Checkpoint:
    """The checkpoint that a rung is loaded from."""
    assert isinstance(rung.build, partial)
    checkpoint: Checkpoint = rung.build.args[0]
    return checkpoint


def _wanting(rung: Rung) -> list[ThalwegError]:
    """The errors for what a rung's model and its dictionaries lack."""
    basis = rung.basis
    lacking: list[ThalwegError] = []
    looks: list[Callable[[], object]] = [partial(checkpoints.located, _checkpoint(rung))]
    looks += [basis.located] if isinstance(basis, Latents) else []
    for look in looks:
        try:
            look()
        except ThalwegError as absent:
            lacking.append(absent)
    return lacking


GPT2 = gpt2()
PYTHIA = pythia()
PYTHIA_TRAINING = pythia_training()
