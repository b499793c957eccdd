"""Whether the two words for a concept meet in a causal language model: `thalweg concepts`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import nn

from thalweg import subjects
from thalweg.compute.devices import in_precision
from thalweg.concepts.measuring import SHUFFLED, patched_rows, shared_rows, shuffled
from thalweg.concepts.pairs import ConceptPairs, padded
from thalweg.concepts.representations import Reader, represent
from thalweg.concepts.words import EMOJI, LEAST, TwoColumns, WordPairs, emoji_pairs, table_pairs, two_columns
from thalweg.errors import ThalwegError
from thalweg.files import whole
from thalweg.models.layers import matching_layers
from thalweg.models.loading import built, loaded, quiet
from thalweg.models.records import Layer, Subject
from thalweg.models.tracing import cannot_run
from thalweg.pipeline.one_model import layers_of
from thalweg.pipeline.settings import settings_of
from thalweg.progress import Progress, Silent, Stages
from thalweg.runs.directory import SETTINGS, RunDirectory, settings_of_kind
from thalweg.stimuli import modalities
from thalweg.subjects.language_layers import kind_of
from thalweg.subjects.stimuli import tokenizer_of

BEFORE = 2  # other words of the language that stand before each word, so that the language is known
BLOCKS = 4  # residual streams that are read by default, evenly spread
PATCHED = 40  # pairs at most: patching takes several passes for each, layer and direction
LONGEST = 64  # tokens of a text that are read
LEAST_GROUP = 20  # pairs: fewer are not analysed apart
TEXT, FRENCH = "text", "fr"
KIND = "concepts"
COLUMNS = {
    "languages": pl.String,  # or text: for aligned texts
    "group": pl.String,  # all, distinct (spelt unlike) or alike (identical or cognates)
    "control": pl.String,  # trained, untrained or shuffled
    "layer": pl.String,
    "measure": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int32,
    "note": pl.String,
}


@dataclass(frozen=True, eq=False)
class WordConcepts:
    """What was measured of a model's words.

    Attributes:
        path: The directory.
        table: A row for each pair of languages, group, control, layer and measure: `concepts.parquet`.
        pairs: The pairs of words and how alike they look, and those left out with the reason: `pairs.parquet`.
    """

    path: Path
    table: pl.DataFrame
    pairs: pl.DataFrame

    def sentence(self) -> str:
        """How many pairs of words there are, and why others were left out."""
        kept = self.pairs.filter(left_out="")
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in _counted(kept["kind"]))
        reasons = _counted(self.pairs.filter(pl.col("left_out") != "")["left_out"])
        others = "; ".join(f"{count:,}: {reason}" for reason, count in reasons)
        return f"{len(kept):,} pairs of words ({kinds})" + (f"; left out, {others}" if others else "")


def measure_concepts(
    subject: str | Subject,
    pairs: str | Path,
    *,
    language: Sequence[str] | str = (),
    pairs_column: str | None = None,
    text: str | Path | None = None,
    text_column: str | None = None,
    layers: Sequence[str] | str = (),
    limit: int = 200,
    seed: int = 0,
    trust_remote_code: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> WordConcepts:
    """Measure how far a causal language model shares concepts between the words of two languages.

    Args:
        subject: The model, by name (`hf:gpt2`, `FILE.py:NAME`) or as a record.
        pairs: A table of two columns, or `emoji` for the names of emojis in English and other languages.
        language: With `emoji`, the other languages; by default `fr`.
        pairs_column: The names of the two columns of `pairs`, as `en,fr`, where it has more with text.
        text: A table of two columns with aligned texts.
        text_column: The names of its two columns, where it has more with text.
        layers: Patterns of layers' names; by default the residual stream after four blocks, evenly spread.
        limit: How many pairs, and texts, are taken at most, drawn at random; 0 means all.
        seed: Of what is drawn.
        trust_remote_code: Whether code that a repository of the hub brings along may run.
        out: The directory; by default `runs/concepts-` and the subject's name.
        progress: Where it says what it does.

    Returns:
        The tables.

    Raises:
        ThalwegError: A mistake that the user can mend, before the long work.

    Example:
        `pairs.csv` has two columns, and `mine.py` a `Subject` of a language model.

        >>> import thalweg
        >>> options = {"layers": "blocks.0.residual", "out": "concepts"}
        >>> concepts = thalweg.measure_concepts("mine.py:subject", "pairs.csv", **options)
        >>> concepts.table.filter(group="all", control="trained", layer="", measure="retrieval")["n"].item()
        6
    """
    if limit and limit < LEAST:
        raise ThalwegError(f"limit is {limit}; 0 for all pairs, or at least {LEAST}, was expected (--limit)")
    seed = settings_of({"seed": seed}).seed
    model = subjects.given(subject, trust_remote_code=trust_remote_code)
    encode = _Encoder.of(model)
    words = _words(str(pairs), [language] if isinstance(language, str) else list(language), pairs_column)
    parallel = _parallel(text, text_column)
    asked = [_Asked.of(each, encode, limit, seed) for each in words]
    texts = _text_pairs(parallel, encode, limit, seed, str(text)) if parallel else None
    network = in_precision(loaded(model), torch.float32).eval()
    for contexts in [*(each.pairs for each in asked), *([texts] if texts else [])]:
        _check_runs(network, contexts)
    chosen = _layers(model, network, [layers] if isinstance(layers, str) else list(layers))
    progress = progress or Silent()
    for note in [said for said in [*(each.note for each in words), parallel.note if parallel else ""] if said]:
        progress.say(note)
    run = RunDirectory(Path(out) if out else Path("runs") / f"concepts-{model.name}")
    networks = {"trained": network} | ({"untrained": built(model.build, model.name)} if model.build else {})
    rows: list[dict[str, Any]] = []
    with run.locked(), Stages(progress)("concepts", len(words) + bool(texts)) as advance:
        settings_of_kind(run.path, KIND)
        for each in asked:
            rows += [{"languages": each.languages} | row for row in _rows(networks, each, chosen, seed)]
            advance()
        if texts:
            rows += [{"languages": TEXT, "group": "all"} | row for row in _text_rows(networks, texts, chosen, seed)]
            advance()
        tables = pl.DataFrame(rows, schema=COLUMNS), _listed(words)
        _write(run, *tables, {"kind": KIND, "subject": model.name, "seed": seed})
    return WordConcepts(run.path, *tables)


@dataclass(frozen=True)
class _Encoder:
    """A model's tokenizer, for texts without what it puts before them."""

    tokenizer: Any

    @classmethod
    def of(cls, model: Subject) -> "_Encoder":
        """That of a subject.

        Raises:
            ThalwegError: It takes no text.
        """
        if not modalities.of(model).tokens or model.tokenizer is None:
            raise ThalwegError(
                f"subject {model.name!r} takes no text by a tokenizer; a causal language model was expected, as hf:gpt2"
            )
        return cls(tokenizer_of(model))

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


def _words(pairs: str, languages: Sequence[str], columns: str | None) -> list[WordPairs]:
    if pairs == EMOJI:
        if columns:
            raise ThalwegError(f"--pairs-column names columns of a table, and --pairs is {EMOJI}; leave it out")
        return [emoji_pairs(language) for language in languages or (FRENCH,)]
    if languages:
        raise ThalwegError(
            f"{pairs}: the languages of a table are its two columns; leave out --language, or give --pairs {EMOJI}"
        )
    return [table_pairs(Path(pairs), columns)]


def _parallel(text: str | Path | None, columns: str | None) -> TwoColumns | None:
    """The table of aligned texts, if there is one.

    Raises:
        ThalwegError: its columns cannot be told, or are named without a table.
    """
    if text:
        return two_columns(Path(text), columns)
    if columns:
        raise ThalwegError("--text-column names columns of aligned texts, and there are none; give --text too")
    return None


def _write(run: RunDirectory, table: pl.DataFrame, pairs: pl.DataFrame, settings: Mapping[str, Any]) -> None:
    whole.write_frame(run / "concepts.parquet", table)
    whole.write_frame(run / "pairs.parquet", pairs)
    whole.write_json(run / SETTINGS, settings)


def _drawn(items: list[Any], limit: int, seed: int) -> list[Any]:
    """At most so many of the items, drawn at random, in their order."""
    if not limit or len(items) <= limit:
        return items
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))[:limit]
    return [items[place] for place in order.sort().values.tolist()]


def _layers(model: Subject, network: nn.Module, patterns: list[str]) -> tuple[Layer, ...]:
    """The layers of these names, or the residual streams after a few blocks."""
    known = layers_of(model, network)
    if patterns:
        return tuple(each.layer for each in matching_layers(known, patterns))
    streams = [each.layer for each in known if kind_of(each.layer.name, network) == "residual"] or [
        each.layer for each in known
    ]
    places = torch.linspace(0, len(streams) - 1, min(BLOCKS, len(streams)), dtype=torch.float64).round().long().unique()
    return tuple(streams[place] for place in places.tolist())


def concept_pairs(encode: Callable[[str], list[int]], words: Sequence[tuple[str, str]], seed: int) -> ConceptPairs:
    """Words as concepts: each after two other words of its language, with commas, read at its last token.

    Each language draws its own words to stand before: translations, which may be spelt alike, would make any network
    find the pair by its context, an untrained one too.
    """
    generator = torch.Generator().manual_seed(seed)
    contexts: list[list[int]] = []
    for side in (0, 1):
        order = torch.randperm(len(words), generator=generator).tolist()
        turn = {place: rank for rank, place in enumerate(order)}
        for place, pair in enumerate(words):
            before = [words[order[(turn[place] + step) % len(words)]][side] for step in range(1, BEFORE + 1)]
            contexts.append(encode(", ".join(before) + ",") + encode(f" {pair[side]}"))
    return _padded(contexts, len(words))


def _padded(contexts: Sequence[Sequence[int]], count: int) -> ConceptPairs:
    """Contexts of one language after the other, one for each concept, read and asked at their last tokens."""
    tokens, last = padded(contexts)
    shaped = last.view(2, count, 1)
    return ConceptPairs(tokens.view(2, count, 1, -1), shaped, shaped)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Words of two languages as a model is given them, and how alike each pair is spelt."""

    languages: str
    pairs: ConceptPairs
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, words: WordPairs, encode: _Encoder, limit: int, seed: int) -> "_Asked":
        """At most so many of the pairs, drawn at random."""
        taken = _drawn(list(zip(words.pairs, words.kinds, strict=True)), limit, seed)
        pairs = concept_pairs(encode, [pair for pair, _ in taken], seed)
        return cls("-".join(words.names), pairs, tuple(kind for _, kind in taken))


def _rows(
    networks: Mapping[str, nn.Module], asked: _Asked, layers: Sequence[Layer], seed: int
) -> Iterator[dict[str, Any]]:
    """The rows of pairs of words: of all, of those spelt unlike, and of those spelt alike."""
    pairs, distinct = asked.pairs, torch.tensor([kind == "distinct" for kind in asked.kinds])
    groups = {"all": torch.ones(len(pairs), dtype=torch.bool), "distinct": distinct, "alike": ~distinct}
    groups = {name: ids for name, ids in groups.items() if name == "all" or int(ids.sum()) >= LEAST_GROUP}
    for control, network in networks.items():
        values = represent(Reader(network, at_once=32), pairs, layers)
        for group, ids in groups.items():
            kept = {layer: pair[:, ids] for layer, pair in values.items()}
            shown = {control: kept} | ({SHUFFLED: shuffled(kept, seed=seed)} if control == "trained" else {})
            for name, each in shown.items():
                for row in shared_rows(each, None, seed=seed):
                    yield {"group": group, "control": name, **row}
    group = "distinct" if "distinct" in groups else "all"
    patched = pairs.take(torch.nonzero(groups[group]).flatten()[:PATCHED])
    for row in patched_rows(Reader(networks["trained"], at_once=32), patched, layers, seed=seed):
        yield {"group": group, "control": "trained", **row}


def _text_pairs(table: TwoColumns, encode: _Encoder, limit: int, seed: int, name: str) -> ConceptPairs:
    """At most so many of the aligned texts of a table, drawn at random, as a model is given them.

    Raises:
        ThalwegError: Too few rows have two texts, or the tokenizer makes nothing of one.
    """
    texts = _drawn([pair for pair in table.rows if all(pair)], limit, seed)
    if len(texts) < LEAST:
        raise ThalwegError(f"{name}: {len(texts)} rows have two texts; at least {LEAST} were expected")
    contexts = [encode(text[side])[:LONGEST] for side in (0, 1) for text in texts]
    if not all(contexts):
        nothing = [text[side] for side in (0, 1) for text in texts][contexts.index([])]
        raise ThalwegError(f"{name}: the tokenizer makes no token of the text {nothing!r:.40}; leave it out")
    return _padded(contexts, len(texts))


def _text_rows(
    networks: Mapping[str, nn.Module], texts: ConceptPairs, layers: Sequence[Layer], seed: int
) -> Iterator[dict[str, Any]]:
    """The rows of aligned texts, read at their last tokens."""
    for control, network in networks.items():
        values = represent(Reader(network, at_once=16), texts, layers)
        shown = {control: values} | ({SHUFFLED: shuffled(values, seed=seed)} if control == "trained" else {})
        for name, each in shown.items():
            yield from ({"control": name, **row} for row in shared_rows(each, None, seed=seed))


def _check_runs(network: nn.Module, pairs: ConceptPairs) -> None:
    """Run the network on the context with the highest token, filled up to the length of the longest.

    Raises:
        ThalwegError: it cannot be run.
    """
    contexts = pairs.tokens.flatten(0, 2)
    hardest = contexts[contexts.amax(1).argmax()][None]
    with torch.inference_mode(), quiet():
        try:
            network(hardest)
        except ThalwegError:
            raise
        except Exception as wrong:
            raise cannot_run(network, hardest, wrong) from wrong


def _counted(values: pl.Series) -> list[tuple[str, int]]:
    """Each value with how often it occurs, the most frequent first."""
    return values.value_counts(sort=True).rows()


def _listed(words: Sequence[WordPairs]) -> pl.DataFrame:
    """All pairs of words: how alike they look, and why some were left out."""
    schema = dict.fromkeys(("languages", "first", "second", "kind", "left_out"), pl.String)
    rows: list[tuple[str, str, str, str, str]] = []
    for each in words:
        languages = "-".join(each.names)
        rows += [(languages, *pair, kind, "") for pair, kind in zip(each.pairs, each.kinds, strict=True)]
        rows += [(languages, first, second, "", reason) for first, second, reason in each.left_out]
    return pl.DataFrame(rows, schema=schema, orient="row")
