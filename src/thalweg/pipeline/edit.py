"""Facts of one model edited and measured: `thalweg edit`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import nn

from thalweg import subjects
from thalweg.compute.devices import in_precision
from thalweg.edits.evaluation import FACTS_SCHEMA, UNEDITED, measure_edits, summarise
from thalweg.edits.facts import Encoded, encode_facts, read_facts
from thalweg.edits.matching import check_neighbourhood, fine_tuned_alike
from thalweg.edits.methods import MATCHED, NAMES, WITH_MOMENTS, EditSettings, Setup
from thalweg.edits.moments import cached_moments
from thalweg.edits.projections import Projection, block_names, projection, projections, usual
from thalweg.edits.requests import Tokens, check_lengths
from thalweg.edits.updates import check_moments, with_ridge
from thalweg.errors import ThalwegError, readable, unknown
from thalweg.files import whole
from thalweg.files.identity import digest
from thalweg.models.loading import loaded, weights_of
from thalweg.models.records import Subject
from thalweg.pipeline.one_model import stimuli_of
from thalweg.pipeline.settings import settings_of, usual_cache
from thalweg.progress import Progress, Silent, Stages
from thalweg.runs.directory import SETTINGS, RunDirectory, settings_of_kind
from thalweg.stimuli import corpus, modalities
from thalweg.stimuli.base import Splits, halves
from thalweg.stimuli.windows import Windows
from thalweg.strength.language import mean_loss, spread
from thalweg.subjects.stimuli import tokenizer_of

FORMAT = 1  # of the directory; also raised when a number changes
SUMMARY, FACTS, LEFT_OUT = "edits.parquet", "facts.parquet", "left-out.json"
SITES = ("subject", "last")
ROME = "rome"
FEW_BLOCKS = 4  # with fewer, nothing may be left to carry what is written at the subject to the prompt's end
PREFIXES, PREFIX_LENGTH = 3, 5
HELD_OUT = 16  # windows of held-out text whose loss is taken after each edit


@dataclass(frozen=True, eq=False)
class Edits:
    """What was edited, and what came of it.

    Attributes:
        path: The directory.
        summary: A row for each method and measure: `edits.parquet`.
        facts: A row for each fact, method and measure: `facts.parquet`.
        left_out: Why facts were left out, by their name.
        about: Lines about what was done.
    """

    path: Path
    summary: pl.DataFrame
    facts: pl.DataFrame
    left_out: Mapping[str, str]
    about: tuple[str, ...]


def edit(
    subject: str | Subject,
    facts: str | Path,
    *,
    method: Sequence[str] | str = "rome",
    layer: Sequence[str | int] | str | int = (),
    site: str = "",
    text: str | Path | Windows | None = None,
    facts_limit: int = 0,
    tokens: int = 20_000,
    ridge: float = 0.0,
    continued: int = 30,
    length: int = corpus.LENGTH,
    trust_remote_code: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Edits:
    """Edit facts of a causal language model, and measure what each edit changes.

    Interrupted, it goes on with the method at which it stopped when it is called again.

    Args:
        subject: The model, by name (`hf:gpt2`, `FILE.py:NAME`) or as a record.
        facts: A JSON file in CounterFact's layout.
        method: `rome`, `memit`, `fine-tune`, `fine-tune-matched` (beside `rome`) or `steer`, or several.
        layer: The number of a block from 0, or the name of a module; several for MEMIT. By default the block at a third
            of the depth, or the last where facts are edited at the last token.
        site: Where a fact is edited: at the `subject`'s last token, or at the prompt's `last`; by default the subject's
            in models of four blocks or more.
        text: Text for second moments, prefixes and held-out loss; by default the embedded English.
        facts_limit: How many facts are taken from the file at most; 0 means all.
        tokens: How many tokens second moments are taken over.
        ridge: What is added to second moments, in mean eigenvalues.
        continued: Tokens of the continuations whose entropy is the fluency; 0 leaves them out.
        length: Tokens in a window of text.
        trust_remote_code: Whether code that a repository of the hub brings along may run.
        out: The directory; by default `runs/edit-` and the subject's name.
        progress: Where it says what it does.
        **settings: `seed`, `cache`, `text_column` and `document_column`, as in `survey`.

    Returns:
        The tables.

    Raises:
        ThalwegError: A mistake that the user can mend, before the long work.

    Example:
        `mine.py` has a `Subject` of a language model, `facts.json` two facts.

        >>> import thalweg
        >>> options = {"text": "text.jsonl", "ridge": 0.01, "continued": 0, "cache": "cache"}
        >>> edits = thalweg.edit("mine.py:subject", "facts.json", out="edits", **options)
        >>> edits.summary.filter(method="unedited", measure="efficacy")["n"].item()
        2
    """
    checked = settings_of(settings)
    options = _options(method, layer, site, facts_limit=facts_limit, tokens=tokens, ridge=ridge, continued=continued)
    model = subjects.given(subject, trust_remote_code=trust_remote_code)
    encoded = _encoded(model, Path(facts), facts_limit)
    if MATCHED in options.methods:
        check_neighbourhood(encoded.requests)
    splits = stimuli_of(model, text, checked, length=length)
    weights = weights_of(model)
    network = in_precision(loaded(model), torch.float32)
    layers = _layers(network, options, encoded)
    check_lengths(network, encoded.requests, options.continued)
    source = _Source(model, network, layers, encoded, splits, weights, checked.cache or usual_cache())
    path = Path(out) if out else Path("runs") / f"edit-{model.name}"
    stages = Stages(progress or Silent())
    with RunDirectory(path).locked():
        made_from = digest(weights, repr(encoded), splits.content_hash(), checked.seed)
        _settle(path, {**options.plain(), "layers": [each.name for each in layers], "made_from": made_from})
        return _measured(source, options, path, checked.seed, stages)


@dataclass(frozen=True)
class _Options:
    """What a user asked for, checked."""

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    site: str
    tokens: int
    ridge: float
    continued: int

    def plain(self) -> dict[str, Any]:
        """What results depend on beside the layers; other methods may join those that are done."""
        kept = {"tokens": self.tokens, "ridge": self.ridge, "continued": self.continued, "site": self.site}
        return {"format": FORMAT, "kind": "edit", **kept}


@dataclass(frozen=True, eq=False)
class _Source:
    """All that edits are made from."""

    subject: Subject
    network: nn.Module
    layers: tuple[Projection, ...]
    encoded: Encoded
    splits: Splits
    weights: str
    cache: Path


def _options(
    methods: Sequence[str] | str, layers: Sequence[str | int] | str | int, site: str, **numbers: Any
) -> _Options:
    """What a user asked for.

    Raises:
        ThalwegError: a method or a site that does not exist, or a number out of range.
    """
    names = (methods,) if isinstance(methods, str) else tuple(dict.fromkeys(methods))
    for name in names:
        if name not in NAMES:
            raise unknown("method of editing", name, NAMES)
    if MATCHED in names and ROME not in names:
        raise ThalwegError(f"{MATCHED} compares at the specificity of rome, which was not asked for; add --method rome")
    if site and site not in SITES:
        raise unknown("site", site, SITES)
    for name, least in {"facts_limit": 0, "tokens": 1, "continued": 0}.items():
        value = numbers[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            option = f"--{name.replace('_', '-')}"
            raise ThalwegError(f"{name} is {value!r} ({option}); a whole number from {least} up was expected")
    if not 0 <= numbers["ridge"] < math.inf:
        raise ThalwegError(f"ridge is {numbers['ridge']!r} (--ridge); a number from 0 up was expected")
    chosen = (layers,) if isinstance(layers, str | int) else tuple(layers)
    if len(chosen) > 1 and (alone := [name for name in names if name != "memit"]):
        raise ThalwegError(f"{len(chosen)} layers are for memit alone; {alone[0]} edits one: give one --layer")
    return _Options(names, tuple(map(str, chosen)), site, numbers["tokens"], numbers["ridge"], numbers["continued"])


def _encoded(model: Subject, path: Path, limit: int) -> Encoded:
    """The facts as the model's tokens.

    Raises:
        ThalwegError: as `read_facts` and `encode_facts` do, or the model takes no text.
    """
    if not modalities.of(model).tokens:
        raise ThalwegError(
            f"subject {model.name!r} takes stimuli of modality {modalities.of(model).name!r}; facts are edited in "
            "causal language models, as hf:gpt2"
        )
    if model.tokenizer is None:
        raise ThalwegError(
            f"subject {model.name!r} has no tokenizer, so facts cannot be given to it; set `tokenizer` in its Subject"
        )
    return encode_facts(read_facts(path, limit=limit), tokenizer_of(model))


def _layers(network: nn.Module, options: _Options, encoded: Encoded) -> tuple[Projection, ...]:
    """The layers that are edited, from the first to the last.

    Raises:
        ThalwegError: one is not there, or cannot be edited.
    """
    tokens = torch.tensor([encoded.requests[0].prompt[:2]] * 2)
    if not options.layers:
        there = projections(network, tokens)
        return (usual(there, last_token=_site(options, network) == "last"),)
    chosen = {each.name: each for each in (projection(network, name, tokens) for name in options.layers)}
    if len(chosen) < len(options.layers):
        raise ThalwegError("two --layer name the same layer; give each once")
    return tuple(sorted(chosen.values(), key=lambda each: each.number))


def _site(options: _Options, network: nn.Module) -> str:
    """The token at which facts are edited."""
    return options.site or ("subject" if len(block_names(network)) >= FEW_BLOCKS else "last")


def _settle(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings, or check that they are those of the run that is continued.

    Raises:
        ThalwegError: they are others, or the directory holds a run of another kind.
    """
    before = settings_of_kind(path, settings["kind"])
    if before and (others := [name for name, value in settings.items() if before.get(name) != value]):
        what = {"made_from": "its facts, text, weights or seed"}.get(others[0], others[0])
        raise ThalwegError(
            f"{readable(path)}: this run was made with other settings ({what}); give the same ones, or choose another "
            "--out"
        )
    whole.write_json(path / SETTINGS, dict(settings))


def _measured(source: _Source, options: _Options, path: Path, seed: int, stages: Stages) -> Edits:
    """Edit by each method that is not done, and put the tables together anew after each."""
    held_out, setup = _setup(source, options, stages)
    requests = source.encoded.requests
    names = sorted((UNEDITED, *options.methods), key=MATCHED.__eq__)  # it needs the rows of ROME
    files = {name: path / "parts" / f"{name}.parquet" for name in names}
    parts = {name: rows for name, file in files.items() if (rows := _finished(file)) is not None}
    for name in names:
        if name not in parts:
            if name in WITH_MOMENTS:
                _check(setup)
            with stages(name, 1 if name in (UNEDITED, "memit") else len(requests)) as advance:
                if name == MATCHED:
                    frame = fine_tuned_alike(setup, requests, parts[ROME], advance=advance)
                else:
                    asked = {"held_out": held_out, "continued": options.continued, "seed": seed}
                    frame = measure_edits(setup, name, requests, advance=advance, **asked)
            whole.write_frame(files[name], frame)
            parts[name] = frame
            _tables(source, parts, setup, path, seed)
    return _tables(source, {name: parts[name] for name in names}, setup, path, seed)


def _finished(file: Path) -> pl.DataFrame | None:
    """A method's rows, if they are there and can be read."""
    try:
        rows = whole.read_frame(file, FACTS_SCHEMA)
    except ThalwegError:
        return None
    return rows if len(rows) else None


def _setup(source: _Source, options: _Options, stages: Stages) -> tuple[Callable[[nn.Module], float], Setup]:
    """The model with second moments of its layers, and how its held-out loss is taken."""
    site: Any = _site(options, source.network)
    train, pool = source.splits.train, source.splits.pool
    if not len(train):  # stimuli that a caller gave as they are
        first, second = halves(pool, seed=0)
        train, pool = pool.take(first), pool.take(second)
    assert isinstance(train, Windows)
    assert isinstance(pool, Windows)
    moments = {}
    needed = source.layers if set(options.methods) & set(WITH_MOMENTS) else ()
    with stages("moments", len(needed)) as advance:
        for each in needed:
            moments[each.name] = cached_moments(
                source.cache, source.network, each, train, tokens=options.tokens, weights=source.weights
            )
            advance()
    kept = spread(pool, HELD_OUT)
    prefixes = _prefixes(train) if site == "subject" else ()
    settings = EditSettings(site=site, ridge=options.ridge)
    return lambda model: mean_loss(model, kept), Setup(source.network, source.layers, moments, settings, prefixes)


def _check(setup: Setup) -> None:
    """Check that second moments can be inverted.

    Raises:
        ThalwegError: those of a layer cannot.
    """
    for name, moments in setup.moments.items():
        where = f"layer {name!r} (over {moments.tokens:,} tokens)"
        check_moments(with_ridge(moments.matrix, setup.settings.ridge), where)


def _prefixes(text: Windows) -> tuple[Tokens, ...]:
    """The beginnings of some windows."""
    rows = spread(text, PREFIXES).tokens[:, :PREFIX_LENGTH].tolist()
    return tuple(tuple(row) for row in rows)


def _tables(source: _Source, parts: Mapping[str, pl.DataFrame], setup: Setup, path: Path, seed: int) -> Edits:
    """Write the tables."""
    layer = ", ".join(each.name for each in source.layers)
    rows = pl.concat([summarise(part, "" if name == UNEDITED else layer, seed=seed) for name, part in parts.items()])
    name = source.subject.name
    identity = [pl.lit(name).alias("ladder"), pl.lit(name).alias("rung"), pl.lit(0, pl.Int64).alias("seed")]
    summary = rows.select(*identity, pl.lit("trained").alias("control"), pl.all())
    facts = pl.concat(list(parts.values()))
    whole.write_frame(path / SUMMARY, summary)
    whole.write_frame(path / FACTS, facts)
    whole.write_json(path / LEFT_OUT, source.encoded.left_out)
    return Edits(path, summary, facts, source.encoded.left_out, _about(source, setup, layer))


def _about(source: _Source, setup: Setup, layer: str) -> tuple[str, ...]:
    """Lines about what was done."""
    counted = {each.tokens for each in setup.moments.values()}
    over = f"; second moments over {max(counted):,} tokens" if counted else ""
    at = {"subject": "the subject's last token", "last": "the prompt's last token"}[setup.settings.site]
    left = len(source.encoded.left_out)
    lines = [
        f"{source.subject.name}: layer {layer}, at {at}{over}",
        f"{len(source.encoded.requests)} facts" + (f", and {left} left out" if left else ""),
    ]
    return tuple(lines)
