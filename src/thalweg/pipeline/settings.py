"""The settings of a survey. The command line's options are made from these fields, so what needs PyTorch is imported
only where it is used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.errors import ThalwegError, unknown
from thalweg.recording.limits import DIRECTIONS, LEAST_DIRECTIONS

if TYPE_CHECKING:
    from thalweg.compute.engines import EngineConfig
    from thalweg.stimuli.base import Source

UNAFFECTING = (
    "workers",
    "engine",
    "address",
    "device",
    "tasks_per_card",
    "cache",
    "download",
    "track",
    "factors",
    "capability",
)  # change no score
OF_LADDERS = (
    "seeds",
    "quick",
    "strength",
    "data",
    "basis",
    "expansion",
    "active",
    "label_noise",
    "track",
)  # settings that one published model has no use for
QUICK_SEEDS = 2
NEURONS = "neurons"  # as `recording.readout` calls them, which needs PyTorch
SAE = "sae"  # as `bases` calls the dictionaries that are trained in a survey
LARGEST = (1 << 63) - 1  # PyTorch's generators take seeds of 64 bits, and some are made by adding to the user's


def usual_cache() -> Path:
    """The cache in the user's home."""
    return Path.home() / ".cache" / "thalweg"


def called(name: str) -> str:
    """A setting as messages name it: as in Python and, where the command line spells it otherwise, as there too."""
    return f"{name} (--{name.replace('_', '-')})" if "_" in name else name


def _option(help_text: str, least: int | None = None) -> dict[str, Any]:
    """The metadata of a field: its help, and the least value that makes sense."""
    return {"help": help_text, "least": least}


@dataclass(frozen=True)
class Settings:
    """The settings of a survey."""

    seeds: int | None = field(
        default=None, metadata=_option("Seeds for each rung; by default 3 (cifar: 2), with --quick 2.", 1)
    )
    quick: bool = field(default=False, metadata=_option("Fewer rungs and seeds: a first look."))
    observer: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "Observer of the headline, more beside it, as hog or timm:NAME; by default image, text or fourier, as "
            "fits a ladder."
        ),
    )
    twins: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "Control networks, instead of a ladder's own: untrained, rotated, rerandomised, "
            "rerandomised-keeping-embeddings, others that a ladder has (memorising), or none."
        ),
    )
    basis: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "What units are: neurons, sae (a dictionary is trained for each layer), random or pca; several with "
            "commas, as neurons,sae,random. The headline is that of the neurons, or else of the first."
        ),
    )
    expansion: int = field(
        default=4, metadata=_option("Latents for each neuron of a trained dictionary, at most 1,024 in all.", 1)
    )
    active: int = field(
        default=0,
        metadata=_option("Latents that are active at once; 0: one for eight neurons, from 3 to 32.", 0),
    )
    factors: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "Factors that take long and are computed on request: effective_features; memorisation (trains each model "
            "20 times more)."
        ),
    )
    label_noise: float | None = field(
        default=None,
        metadata=_option("Share of the training stimuli that are given a wrong label, from 0 to 1; by default none."),
    )
    strength: str = field(default="bits", metadata=_option("Strength axis of the headline."))
    workers: int | None = field(default=None, metadata=_option("Worker processes; as many as cores by default.", 1))
    engine: str = field(default="local", metadata=_option("Where tasks run: local (processes) or ray (a cluster)."))
    address: str | None = field(default=None, metadata=_option("Address of the Ray cluster; one is found by default."))
    shards: int | None = field(
        default=None,
        metadata=_option(
            "Parts that stimuli are cut into, each recorded as a task; 1, or 8 for one model on a CPU.", 1
        ),
    )
    device: str = field(
        default="auto",
        metadata=_option(
            "auto (a CUDA GPU if there is one, else the CPU), cpu, cuda, cuda:N (one card) or mps (Apple)."
        ),
    )
    tasks_per_card: int | None = field(
        default=None,
        metadata=_option("Models that share a GPU at once, on the card with the most free memory; --workers, or 1.", 1),
    )
    precision: str = field(
        default="float32", metadata=_option("Precision that models run in: float32, bfloat16 or float16.")
    )
    batch_size: int | None = field(
        default=None,
        metadata=_option("Stimuli that a model is given at once; 250, or fewer for published models.", 1),
    )
    data: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "File or folder with the stimuli, instead of the embedded ones; LADDER=PATH if there are several ladders."
        ),
    )
    text_column: str | None = field(default=None, metadata=_option("Column of a table that holds its text."))
    document_column: str | None = field(default=None, metadata=_option("Column that says which document a text is of."))
    image_column: str | None = field(default=None, metadata=_option("Column of a Parquet table that holds its images."))
    label_column: str | None = field(
        default=None,
        metadata=_option("Column that holds the classes of images or the kinds of texts; 'none' for none."),
    )
    skip_bad: bool = field(default=False, metadata=_option("Leave out images that do not decode."))
    seed: int = field(default=0, metadata=_option("The one seed that every random choice comes from.", 0))
    k: int = field(default=64, metadata=_option("Highest and lowest stimuli kept of each unit.", 30))
    sample: int = field(default=512, metadata=_option("Size of the random sample of stimuli kept for all units.", 60))
    directions: int = field(
        default=DIRECTIONS,
        metadata=_option(
            "Random directions of each layer in its rotated twin; a quarter where a unit's highest place counts.",
            LEAST_DIRECTIONS,
        ),
    )
    resamples: int = field(default=1000, metadata=_option("Bootstrap draws for a model's interval.", 100))
    capability: bool | None = field(
        default=None,
        metadata=_option(
            "Weigh what a model's best-scored units carry of what it can do; by default only where dictionaries are "
            "trained beside the neurons."
        ),
    )
    cache: Path = field(
        default_factory=usual_cache,
        metadata=_option("Folder that keeps observers' features and published models' strengths between runs."),
    )
    download: bool = field(
        default=False,
        metadata=_option(
            "Fetch models, observers and dictionaries that are missing; size and licence are shown first."
        ),
    )

    track: tuple[str, ...] = field(
        default=(),
        metadata=_option("Also write training curves, stages and verdicts for: tensorboard, wandb."),
    )

    def seeds_each(self, usual: int) -> int:
        """Seeds for each rung of a ladder that usually has so many."""
        return self.seeds or (min(QUICK_SEEDS, usual) if self.quick else usual)

    def check(self) -> "Settings":
        """The same settings.

        Raises:
            ThalwegError: a value out of range, an unknown strength axis, or a device that is not there.
        """
        from thalweg.compute.devices import PRECISIONS, check_device
        from thalweg.models.records import check_share
        from thalweg.strength import axes
        from thalweg.tracking import trackers

        for name, declared in self.__dataclass_fields__.items():
            value, least = getattr(self, name), declared.metadata.get("least")
            if least is None or value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise ThalwegError(f"{called(name)} is {value!r}; a whole number was expected")
            if not least <= value <= LARGEST:
                bound = f"at least {least}" if value < least else f"at most {LARGEST}"
                raise ThalwegError(f"{called(name)} is {value}; {bound} was expected")
        axes.check(self.strength)
        if self.label_noise is not None:
            check_share(called("label_noise"), self.label_noise)
        trackers.check(self.track)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        check_device(self.device, here=self.engine == "local")
        if self.address and self.engine == "local":
            raise ThalwegError("the address is that of a Ray cluster, but the engine is 'local'; add --engine ray")
        return self

    @property
    def other_bases(self) -> tuple[str, ...]:
        """The bases beside the main one."""
        return self.basis[1:]

    @property
    def weighs_capability(self) -> bool:
        """Whether capability is weighed: as was asked or, where nothing was, beside the dictionaries of neurons."""
        return {NEURONS, SAE} <= set(self.basis) if self.capability is None else self.capability

    @property
    def n_shards(self) -> int:
        """Shards of the stimuli of each half."""
        return self.shards or 1

    @property
    def resolved_device(self) -> str:
        """The device that models run on; `cuda` is the card that a task was given."""
        from thalweg.compute.devices import resolved

        return resolved(self.device)

    @property
    def engine_config(self) -> "EngineConfig":
        """Where tasks run that need no GPU."""
        from thalweg.compute.engines import EngineConfig

        return EngineConfig(self.engine, self.workers, self.address)

    @property
    def model_engine_config(self) -> "EngineConfig":
        """Where tasks run that run models. On GPUs of this machine `workers` are tasks a card, by default one, unless
        `tasks_per_card` says how many; then `workers` bounds them all.
        """
        from thalweg.compute.cards import cards_of

        cards = cards_of(self.device) if self.engine == "local" else ()
        a_card = self.workers if cards and self.tasks_per_card is None else None
        return replace(
            self.engine_config,
            workers=len(cards) * a_card if a_card else self.workers,
            gpus=0 if self.device == "cpu" else 1,
            cards=cards,
            tasks_per_card=self.tasks_per_card or a_card or 1,
        )

    def source(self, path: Path | None) -> "Source":
        """The source of stimuli: their path, and the columns that are read."""
        from thalweg.stimuli.base import Source

        return Source(path, self.text_column, self.document_column, self.image_column, self.label_column, self.skip_bad)

    def affecting(self) -> dict[str, Any]:
        """The settings that results depend on, as plain values."""
        kept = {name: value for name, value in asdict(self).items() if name not in UNAFFECTING}
        return kept | {name: list(kept[name]) for name in ("observer", "data", "twins", "basis")}


def in_order(bases: Iterable[str]) -> tuple[str, ...]:
    """The bases of a list in which commas too may stand between them, each once; the neurons, where they are among
    them, first.

    Raises:
        ThalwegError: the list is not empty, but names none.
    """
    given = list(bases)
    names = dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip())
    if given and not names:
        raise ThalwegError(
            f"--basis {', '.join(map(repr, given))} names no basis; leave it out, or name one, as neurons"
        )
    return tuple(sorted(names, key=lambda name: name != NEURONS))


def settings_of(given: Mapping[str, Any]) -> Settings:
    """The settings that a user gave by name, checked; the cache may be named by a string.

    Raises:
        ThalwegError: an unknown setting, or as `Settings.check` does.
    """
    for name, value in given.items():
        if name not in Settings.__dataclass_fields__:
            raise unknown("setting", name, Settings.__dataclass_fields__)
        counted = Settings.__dataclass_fields__[name].metadata.get("least") is not None
        if counted and value is not None and not isinstance(value, Integral):
            raise ThalwegError(f"{called(name)} is {value!r}; a whole number was expected")
    made: dict[str, Any] = {name: Path(value) if name == "cache" else value for name, value in given.items()}
    for name in ("twins", "factors", "track"):
        if name in made:
            made[name] = (made[name],) if isinstance(made[name], str) else tuple(made[name])
    if "basis" in made:
        made["basis"] = in_order((made["basis"],) if isinstance(made["basis"], str) else made["basis"])
    return Settings(**made).check()
