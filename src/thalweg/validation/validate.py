"""One call that plants units over a user's own stimuli and says whether the instrument tells one latent from many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from thalweg import ladders
from thalweg.downloads.missing import fetches_on_request
from thalweg.errors import ThalwegError, readable, unknown, user_code
from thalweg.files import whole
from thalweg.files.names import file_name
from thalweg.measures.headlines import HEADLINES
from thalweg.models.records import Ladder
from thalweg.observers.base import Observer
from thalweg.observers.embedding import ObserverView
from thalweg.pipeline.descriptions import of_measures, of_observer
from thalweg.pipeline.embed import embed_pool, write_views
from thalweg.pipeline.request import as_list, check_observers, observers_of, requested_observers, sources_of
from thalweg.pipeline.settings import Settings, settings_of
from thalweg.progress import Progress, Silent, Stages
from thalweg.recording.settings import RecordingSettings
from thalweg.scoring.units import Halves, ObserverOnPool, stimulus_metadata
from thalweg.stimuli import corpus, image_readers, modalities
from thalweg.stimuli.base import LEAST_POOL, Source, Splits, Stimuli, halves, notes_of
from thalweg.stimuli.checks import check_splits, check_stimuli
from thalweg.stimuli.folders import files_below
from thalweg.validation import planted, summary
from thalweg.validation.page import write_page
from thalweg.validation.planted import Group, Latents, draw_latents, planted_groups
from thalweg.validation.scores import score_planted

FORMAT = 1  # of the files of a validation
LEAST_UNITS = 10
TABLE, RECORD, PAGE = "validation.parquet", "validation.json", "validation.html"


@dataclass(frozen=True, eq=False)
class Validation:
    """What the instrument made of planted units.

    Attributes:
        path: The folder that holds the table, the record and the page.
        groups: A row for each group, measure and observer: `validation.parquet`.
        record: What was planted and with which settings, the rank correlations, sensitivities and
            reliabilities: `validation.json`.

    Example:
        See `validate`.
    """

    path: Path
    groups: pl.DataFrame
    record: Mapping[str, Any]

    @property
    def page(self) -> Path:
        """The page."""
        return self.path / PAGE

    @property
    def sentences(self) -> dict[str, str]:
        """By headline, whether it tells one latent from many on these stimuli."""
        return dict(self.record["sentences"])


@fetches_on_request
def validate(
    stimuli: str | Path | Stimuli | Ladder,
    *,
    observer: Sequence[str | Observer] | str | Observer = (),
    units: int = planted.UNITS,
    length: int = corpus.LENGTH,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Validation:
    """Plant units whose truth is known over stimuli, and score them as a model's units are.

    Args:
        stimuli: A ladder, whose held-out pool is taken, or what `measure` takes: a file, a folder, a set of stimuli.
        observer: As in `survey`. The latents come from the dictionary of the first.
        units: How many units a group has at most.
        length: Tokens in a window of text, of files.
        out: The folder that is written; by default `runs/validate-` and the name of the stimuli.
        progress: As in `survey`.
        **settings: As in `survey`; `seed`, `cache`, `workers` and the columns matter.

    Returns:
        The scores of each group, what they say, and the page's path.

    Raises:
        ThalwegError: A mistake that the user can mend, before the long work.

    Example:
        `ladder` is the one of the tutorial "A ladder of your own".

        >>> import thalweg
        >>> from ladder import ladder
        >>> result = thalweg.validate(ladder, observer="hog", units=10, workers=1, out="runs/validated")
        >>> result.groups.filter(group="noise", observer="hog", measure="two_choice")["n_units"].unique().to_list()
        [10]
    """
    if isinstance(units, bool) or not isinstance(units, int) or units < LEAST_UNITS:
        raise ThalwegError(f"units is {units!r} (--units); a whole number of at least {LEAST_UNITS} was expected")
    asked = requested_observers(as_list(observer))
    checked = settings_of({**settings, "observer": tuple(each.name for each in asked)})
    ladder, source = _ladder_of(stimuli, checked, length)
    check_observers([ladder], asked)
    observers = observers_of(ladder, asked)
    stages = Stages(progress or Silent())
    pool = _pool(ladder, source, checked, stages)
    path = Path(out) if out else Path("runs") / f"validate-{file_name(ladder.name)}"
    whole.writable(path, "--out")
    plan = _plan(pool, observers, units, checked, stages)
    table, record = _result(plan, ladder, checked, stages)
    whole.write_frame(path / TABLE, table)
    whole.write_json(path / RECORD, record)
    write_page(table, record, path / PAGE)
    return Validation(path, table, record)


def _ladder_of(stimuli: str | Path | Stimuli | Ladder, settings: Settings, length: int) -> tuple[Ladder, Source]:
    """A ladder and the source of its stimuli; of stimuli that have none, what stands for it: a name, a modality and a
    reader.

    Raises:
        ThalwegError: there is neither a ladder nor a file of this name, or the stimuli are no stimuli.
    """
    if not isinstance(stimuli, str | Path | Ladder):
        pool = check_stimuli(stimuli, "the stimuli", modalities.of(stimuli), statistics=True)
        return Ladder("stimuli", (), lambda _source, _seed: Splits.of_pool(pool), modality=pool.modality), Source()
    if isinstance(stimuli, Ladder) or ladders.ships(str(stimuli)):
        ladder = stimuli if isinstance(stimuli, Ladder) else ladders.LADDERS.get(str(stimuli))
        ladder = ladder or ladders.find(str(stimuli))
        return ladder, sources_of([ladder], settings)[ladder.name]
    path = Path(stimuli)
    if not path.exists():
        raise unknown("ladder, file or folder", str(stimuli), ladders.LADDERS)
    if settings.data:
        raise ThalwegError(f"--data is for ladders, and {readable(path)} names the stimuli already; leave it out")
    modality = modalities.TEXT if _is_text(path, settings) else modalities.IMAGE
    assert modality.read is not None
    read = partial(modality.read, length=length) if modality.tokens else modality.read
    return Ladder(readable(path.stem), (), read, modality=modality), settings.source(path)


def _is_text(path: Path, settings: Settings) -> bool:
    """Whether a file or folder holds text, by the columns that were named, by its columns or by its files' endings."""
    if settings.image_column or settings.text_column or settings.document_column:
        return not settings.image_column
    if path.is_dir():
        endings = {file.suffix.lower() for file in files_below(path).files}
        return ".txt" in endings and not endings & {*image_readers.ENDINGS, image_readers.TABLES}
    if path.suffix.lower() != image_readers.TABLES:
        return True
    try:
        columns = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError):
        return False  # the reader of images says what is wrong
    return not any(isinstance(dtype, pl.Binary | pl.Struct) for dtype in columns.values())


def _pool(ladder: Ladder, source: Source, settings: Settings, stages: Stages) -> Stimuli:
    """The stimuli that units are planted over.

    Raises:
        ThalwegError: they cannot be read, or are too few.
    """
    with user_code(f"the function `splits` of ladder {ladder.name!r}"):
        splits = ladder.splits(source, settings.seed)
    pool = check_splits(splits, ladder.name, modalities.of(ladder)).pool
    for note in notes_of(pool):
        stages.progress.say(note)
    if len(pool) < LEAST_POOL:
        raise ThalwegError(f"{ladder.name}: holds {len(pool)} stimuli; the trials need at least {LEAST_POOL}")
    return pool


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is planted over which stimuli, and who judges it."""

    pool: Stimuli
    parts: Halves
    observers: tuple[Observer, ...]  # the headline's first
    views: list[ObserverOnPool]
    low_level: Tensor
    latents: Latents
    groups: list[Group]


def _plan(pool: Stimuli, observers: tuple[Observer, ...], units: int, settings: Settings, stages: Stages) -> _Plan:
    """The planted units, and the observers' views of the pool.

    Raises:
        ThalwegError: the first observer names too few sparse things.
    """
    features = embed_pool(pool, observers, settings, stages)
    files = write_views(pool, observers, features, settings)
    tensors = [whole.read_tensors(files[observer.name]) for observer in observers]
    views = [
        ObserverOnPool(observer, ObserverView(view.get("embedding"), view["dictionary"]))
        for observer, view in zip(observers, tensors, strict=True)
    ]
    parts, dictionary = Halves(*halves(pool, seed=settings.seed)), views[0].view.dictionary
    latents = draw_latents(dictionary, parts, seed=settings.seed, most=max(units, planted.UNITS))
    groups = planted_groups(latents, dictionary, seed=settings.seed, units=units)
    low_level = whole.read_tensors(features["trivial"])["features"]
    return _Plan(pool, parts, observers, views, low_level, latents, groups)


def _result(plan: _Plan, ladder: Ladder, settings: Settings, stages: Stages) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The table of groups and the record."""
    recording = RecordingSettings(k=settings.k, sample=settings.sample, seed=settings.seed)
    metadata = stimulus_metadata(plan.pool, plan.low_level)
    with stages("validate", 2) as advance:
        rows = score_planted(plan.groups, plan.latents, plan.parts, plan.views, metadata, recording)
        advance()
        key, scores = summary.group_scores(rows, plan.groups, seed=settings.seed)
        table = summary.means(key, scores)
        contrasts = summary.sensitivities(key, scores)
        found = {
            "sentences": summary.sentences(table, contrasts, HEADLINES, plan.observers[0].name),
            "correlations": summary.correlations(key, scores, seed=settings.seed),
            "sensitivities": contrasts,
            "reliabilities": summary.reliabilities(rows),
        }
        advance()
    return table, summary.for_json(_about(plan, ladder, settings) | found)


def _about(plan: _Plan, ladder: Ladder, settings: Settings) -> dict[str, Any]:
    """What was planted over which stimuli, and who judged it by which measures."""
    active = (plan.latents.values > 0).float().mean(0)
    return {
        "format": FORMAT,
        "stimuli": {
            "name": ladder.name,
            "description": ladder.description,
            "modality": modalities.of(ladder).name,
            "count": len(plan.pool),
            "data_hash": plan.pool.content_hash(),
            "notes": list(notes_of(plan.pool)),
        },
        "settings": {name: getattr(settings, name) for name in ("seed", "k", "sample")},
        "latents": {
            "count": len(active),
            "graded": int(plan.latents.graded.sum()),
            "least_active": float(active.min()),
            "most_active": float(active.max()),
        },
        "groups": [
            {"name": group.name, "kind": group.kind, "latents": group.latents, "n_units": group.values.shape[1]}
            for group in plan.groups
        ],
        "observers": [
            {"name": each.name, "version": each.version, "control": each.control, "sees": of_observer(each)}
            for each in plan.observers
        ],
        "measures": of_measures(),
        "headlines": dict(HEADLINES),
    }
