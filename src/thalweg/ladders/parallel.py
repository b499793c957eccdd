"""Two real languages: transformers trained on both columns of a user's table of aligned texts.

Each row of the table has a text and its translation. Texts of one column are put together, in their order, to documents
of that language; no line says what is a translation of what. From there on the ladder is `words`: the same vocabulary's
size, windows, networks and training. A few hundred rows, each text of which stands in the table once, are kept out of
all documents: on them, read at their last tokens, it is measured how far the languages share what is said.

No such text is brought along.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from thalweg.concepts.pairs import ConceptPairs, padded
from thalweg.concepts.words import two_columns
from thalweg.errors import ThalwegError, readable
from thalweg.files.identity import digest
from thalweg.ladders import words
from thalweg.models.records import Ladder, Rung
from thalweg.models.rerandomised import WITH_RERANDOMISED
from thalweg.stimuli import corpus
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.documents import BLOCK, Document, Texts
from thalweg.stimuli.vocabulary import byte_pairs
from thalweg.stimuli.windows import Windows
from thalweg.strength.language import evaluate

ALIGNED, LEAST_ALIGNED = 200, 20  # rows that are kept out, at most and at least
SHORTEST = 4  # tokens of a text that is kept out; the longest fills a window
Pair = tuple[str, str]
# width, blocks, thousands of training tokens, and whether a quick survey takes it
RUNGS = (
    (8, 1, 250, True),
    (16, 1, 400, True),
    (32, 1, 600, True),
    (64, 1, 1000, True),
    (128, 1, 1400, False),
    (64, 2, 1000, False),
    (128, 2, 2000, False),
    (128, 4, 2400, False),
)


@dataclass(frozen=True, eq=False)
class ParallelWindows(Windows):
    """Windows of two languages, with aligned texts that no document holds.

    Attributes:
        aligned: The texts as tokens, of the first and of the second language, in the same order.
    """

    aligned: tuple[tuple[tuple[int, ...], ...], ...] = field(default=((), ()))

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever a window or an aligned text does."""
        return digest(super().content_hash(), self.aligned)


def splits(source: Source, seed: int) -> Splits:
    """The windows of a user's table in both languages; the pool has the aligned texts.

    Raises:
        ThalwegError: no table is named; it cannot be read, does not have two columns of text, or has too few rows.
    """
    if source.path is None:
        raise ThalwegError(
            "the ladder parallel brings no text along; name a table with a text and its translation in each row, as "
            "--data parallel=texts.csv"
        )
    path = Path(source.path)
    table = two_columns(path, source.text)
    rows = [row for row in table.rows if all(row)]
    generator = torch.Generator().manual_seed(seed)
    counts = Counter(text for row in rows for text in row)
    order = [rows[place] for place in torch.randperm(len(rows), generator=generator).tolist()]
    once = [row for row in order if all(counts[text] == 1 for text in row)]
    tokenizer = byte_pairs(text for row in rows for text in row)
    aligned = _fitting(once, tokenizer)
    if len(aligned) < LEAST_ALIGNED:
        raise ThalwegError(
            f"{readable(path)}: {len(aligned)} of {len(rows):,} rows have two texts of {SHORTEST} to {corpus.LENGTH} "
            f"tokens that stand in the table once; at least {LEAST_ALIGNED} were expected, to be kept out of training"
        )
    kept_out = set(aligned)
    documents = _documents([row for row in rows if row not in kept_out], table.names)
    note = f"{len(rows):,} rows of {' and '.join(table.names)}, {len(aligned)} of them kept out to compare languages"
    texts = Texts(documents, f"{readable(path)}: {note}", readable(path))
    made = corpus.split(texts, seed=seed, tokenizer=tokenizer)
    assert isinstance(made.pool, Windows)
    sides = tuple(tuple(_tokens(tokenizer, row[side]) for row in aligned) for side in (0, 1))
    return replace(made, pool=ParallelWindows(**vars(made.pool), aligned=sides))


def _tokens(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def _fitting(rows: Iterable[Pair], tokenizer: Tokenizer) -> list[Pair]:
    """The first rows both of whose texts have some tokens and fit into a window."""
    found: list[Pair] = []
    for row in rows:
        if all(SHORTEST <= len(_tokens(tokenizer, text)) <= corpus.LENGTH for text in row):
            found.append(row)
        if len(found) == ALIGNED:
            break
    return found


def _documents(rows: Iterable[Pair], names: Pair) -> list[Document]:
    """The texts of each language, in blocks of consecutive ones."""
    made: list[Document] = []
    for side, name in enumerate(names):
        block: list[str] = []
        for row in rows:
            block.append(row[side])
            if sum(map(len, block)) >= BLOCK:
                made.append(Document(f"{name} {len(made)}", "\n".join(block), name))
                block = []
        if block:
            made.append(Document(f"{name} {len(made)}", "\n".join(block), name))
    return made


def aligned_pairs(seed: int, parts: Splits) -> ConceptPairs:
    """The aligned texts as concepts, each read at its last token. They are not patched: what follows a text is not what
    it says.

    Args:
        seed: Nothing is drawn.
        parts: The stimuli.
    """
    pool = parts.pool
    assert isinstance(pool, ParallelWindows)
    tokens, last = padded([text for side in pool.aligned for text in side])
    shaped: Int[Tensor, "2 text 1"] = last.view(2, -1, 1)
    return ConceptPairs(tokens.view(2, len(pool.aligned[0]), 1, -1), shaped, shaped, patched=0)


def ladder() -> Ladder:
    """The ladder."""
    return Ladder(
        name="parallel",
        rungs=tuple(_rung(*rung) for rung in RUNGS),
        splits=splits,
        description="the next token of text in two languages, by transformers of one to four blocks",
        modality="text",
        controls=WITH_RERANDOMISED,
        evaluate=evaluate,
        concepts=aligned_pairs,
    )


def _rung(width: int, blocks: int, thousands: int, quick: bool) -> Rung:
    made = words.transformer(corpus.LENGTH, "last", width, tokens=1000 * thousands, blocks=blocks, mlp=True)
    return replace(made, quick=quick)


LADDER = ladder()
