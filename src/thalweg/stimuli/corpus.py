"""From documents to windows that begin and end with words, in three parts that share no document.

The text is that of the user's file or, without one, the English that every installation carries. Paragraphs that stand
in it twice are removed first. Then whole documents are dealt out at random by the seed: three quarters for training, a
twentieth for deciding when to stop, a fifth for the pool. The vocabulary (byte-level byte-pair encoding) and the topics
come from the training documents alone. A model that exists already brings its tokenizer: nothing is trained then, and
whole documents are encoded as that tokenizer encodes them.

A word here is a run of letters with their marks, digits and underscores, with the apostrophes in it, a run of other
characters, or a line break; a space belongs to the word after it. No token of a vocabulary that is trained here spans
two words; one of a published tokenizer may ("?" and a line break), and then no window begins or ends inside it. A
window begins at a word that follows whitespace and ends where a word does, so some text between windows is left out. In
scripts that write no spaces (`scripts`), it begins and ends between any two characters that no token spans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer

from thalweg.errors import ThalwegError, readable
from thalweg.stimuli.base import Source, Splits
from thalweg.stimuli.docstrings import embedded
from thalweg.stimuli.documents import BLOCK, Document, Texts, read, without_repeats
from thalweg.stimuli.encoding import SPEECH, Encoded, encode, encode_whole
from thalweg.stimuli.topics import topics
from thalweg.stimuli.vocabulary import ENTRIES, byte_pairs, pieces
from thalweg.stimuli.windows import NO_TARGET, Tags, Vocabulary, Windows

LENGTH = 24  # tokens in a window: about fifteen words
POOL, VALIDATION = 6000, 2000  # windows, at most
POOL_SHARE, VALIDATION_SHARE = 0.2, 0.05  # of the documents
POOL_DOCUMENTS = 4  # at least: two halves of two documents each; and at most a quarter of the pool from one document
LEAST_DOCUMENTS = 8  # four for the pool, one for validation, three for training


def splits(source: Source, seed: int, *, length: int = LENGTH, tokenizer: Tokenizer | None = None) -> Splits:
    """The windows of a user's file or, if there is none, of the English that every installation carries.

    Raises:
        ThalwegError: see `read` and `split`.
    """
    if length < 2:
        raise ThalwegError(f"length is {length}; at least 2 tokens in a window were expected (--length)")
    texts = _embedded() if source.path is None else replace(read(source), origin=readable(source.path))
    return split(texts, seed=seed, length=length, tokenizer=tokenizer)


def _embedded() -> Texts:
    """The English of the installed libraries, with notes on it."""
    documents = embedded()
    characters = sum(len(document.text) for document in documents)
    origin = "the embedded English"
    return Texts(documents, f"{origin}: {len(documents):,} documents of {characters:,} characters", origin)


def split(
    texts: Texts,
    *,
    seed: int,
    length: int = LENGTH,
    tokenizer: Tokenizer | None = None,
    entries: int = ENTRIES,
    pool: int = POOL,
    validation: int = VALIDATION,
) -> Splits:
    """Windows for training, for validation and for the pool; no document is in two of them, no window is there twice.

    At most `pool` and `validation` windows are drawn at random, as many from one document as from another as far as
    they have them, and no more than a quarter of the pool from one. A window's document is a place in the random order.
    The tokens are those of the `tokenizer` or, without one, of an encoding with so many `entries` that is trained on
    the training documents. The pool's notes are the text's own and one more.

    Raises:
        ThalwegError: too few documents when repeated paragraphs are removed, or none long enough for a window.
    """
    if length < 2 or entries <= 256:
        raise ThalwegError(f"length is {length}, entries {entries}; at least 2 tokens and 257 entries were expected")
    kept, repeats = without_repeats(texts.documents)
    _check_number(kept, repeats, texts.origin)
    generator = np.random.default_rng(seed)
    shuffled = [kept[index] for index in generator.permutation(len(kept))]
    before_pool = len(kept) - max(POOL_DOCUMENTS, round(POOL_SHARE * len(kept)))
    trained = before_pool - max(1, round(VALIDATION_SHARE * len(kept)))
    encoded, vocabulary = _encoded(shuffled, trained, tokenizer, entries, seed)
    _check_longest(encoded, length, texts.origin)
    every = windows(shuffled, encoded, vocabulary, length=length)
    of = every.documents.numpy()
    in_validation = np.flatnonzero((of >= trained) & (of < before_pool))
    in_pool = np.flatnonzero(of >= before_pool)
    chosen = (
        np.flatnonzero(of < trained),
        in_validation[_evenly(of[in_validation], validation, 1, generator)],
        in_pool[_evenly(of[in_pool], pool, POOL_DOCUMENTS, generator)],
    )
    _check_parts(chosen, len(np.unique(of)), len(kept), length, texts.origin)
    note = _account(chosen, len(np.unique(of)), len(kept), repeats, length)
    train, checked, held_out = (every.take(torch.from_numpy(part)) for part in chosen)
    return Splits(train, checked, replace(held_out, notes=tuple(filter(None, (texts.note, note)))))


def _account(
    parts: Sequence[Int[np.ndarray, " _"]], with_windows: int, documents: int, repeats: float, length: int
) -> str:
    """How many windows each part has, and what was left out."""
    training, validation, pool = map(len, parts)
    return (
        f"windows of {length} tokens from {with_windows:,} of {documents:,} documents: {training:,} for training, "
        f"{validation:,} for validation, {pool:,} in the pool; left out: {repeats:.1%} of the paragraphs, which are "
        "repeats"
    )


def _check_number(kept: Sequence[Document], repeats: float, origin: str) -> None:
    """Make sure that there are enough documents for the three parts."""
    if len(kept) < LEAST_DOCUMENTS:
        raise ThalwegError(
            f"{origin}: has {len(kept)} document{'s' * (len(kept) != 1)} when repeated paragraphs are removed "
            f"({repeats:.0%} of all); at least {LEAST_DOCUMENTS} were expected, for training, validation and the two "
            "halves of the pool share none. A table has a document in each row, a folder one in each .txt file; a "
            f"plain text is cut at form feeds, or else between paragraphs into blocks of {BLOCK:,} characters: break "
            "long lines, as by: fold -s -w 500 FILE"
        )


def _check_longest(encoded: Sequence[Encoded], length: int, origin: str) -> None:
    """Make sure that some document is as long as a window."""
    longest = max(len(document.tokens) for document in encoded)
    if longest < length:
        raise ThalwegError(
            f"{origin}: none of {len(encoded):,} documents holds a window of {length} tokens: the longest document has "
            f"{longest} tokens. Longer documents or shorter windows (--length) were expected; where rows are parts of "
            "documents, name the column that says of which with --document-column"
        )


def _check_parts(
    parts: Sequence[Int[np.ndarray, " _"]], with_windows: int, documents: int, length: int, origin: str
) -> None:
    """Make sure that windows are left for each of the three parts."""
    for part, chosen in zip(("training", "validation", "the pool"), parts, strict=True):
        if not len(chosen):
            raise ThalwegError(
                f"{origin}: only {with_windows:,} of {documents:,} documents hold a window of {length} tokens, and "
                f"none is left for {part}. A window begins after a space or a line break, ends with a word, and stands "
                "nowhere else in the text. Longer documents or shorter windows (--length) were expected; where rows "
                "are parts of documents, name the column that says of which with --document-column"
            )


def _encoded(
    shuffled: Sequence[Document], trained: int, tokenizer: Tokenizer | None, entries: int, seed: int
) -> tuple[list[Encoded], Vocabulary]:
    """The documents as tokens, and their vocabulary, made from the first `trained` of them alone."""
    if tokenizer is not None:
        encoded = encode_whole(shuffled, tokenizer)
        return encoded, _published(tokenizer, encoded[:trained], seed)
    trained_tokenizer = byte_pairs((document.text for document in shuffled[:trained]), entries)
    encoded = encode(shuffled, trained_tokenizer)
    return encoded, _vocabulary(trained_tokenizer, encoded[:trained], seed)


def windows(
    documents: Sequence[Document], encoded: Sequence[Encoded], vocabulary: Vocabulary, *, length: int
) -> Windows:
    """All windows of so many tokens of each document, the same one only once, with the token that follows each.

    A window begins at the first token of a word that whitespace or a line break precedes, and ends where the next token
    is the first of a word, or the document ends; in scripts without spaces, it begins and ends between characters. One
    that would end within a word is not taken, but the next that can begin after its first word. `tags` has the tag of
    the word that its last token belongs to.
    """
    starts = [_starts(item, vocabulary, length) for item in encoded]
    rows = [item.tokens[start : start + length] for item, mine in zip(encoded, starts, strict=True) for start in mine]
    tokens = np.stack(rows) if rows else np.empty((0, length), np.int32)  # (window, token)
    following = [
        int(item.tokens[start + length]) if start + length < len(item.tokens) else NO_TARGET
        for item, mine in zip(encoded, starts, strict=True)
        for start in mine
    ]
    origin = np.repeat(np.arange(len(documents)), [len(mine) for mine in starts])
    names = tuple(sorted({document.label for document in documents}))
    labels = np.array([names.index(document.label) for document in documents], np.int64)
    every = Windows(
        tokens=torch.from_numpy(tokens),
        following=torch.tensor(following, dtype=torch.int64),
        documents=torch.from_numpy(origin),
        labels=torch.from_numpy(labels[origin]),
        label_names=names,
        vocabulary=vocabulary,
        tags=_tags(encoded, starts, length),
    )
    _, distinct = np.unique(tokens.view(np.dtype((np.void, 4 * length))).ravel(), return_index=True)
    return every.take(torch.from_numpy(np.sort(distinct)))


def _starts(document: Encoded, vocabulary: Vocabulary, length: int) -> list[int]:
    """The positions at which windows begin in a document."""
    if not len(document.tokens):
        return []
    shown = [vocabulary.pieces[token] for token in document.tokens.tolist()]
    between = document.unspaced if len(document.unspaced) else np.zeros(len(shown), np.bool_)
    can_begin = [
        bool(cut) or (bool(first) and piece != b"\n" and (piece.startswith(b" ") or before.endswith(b"\n")))
        for cut, first, piece, before in zip(between, document.first, shown, [b"\n", *shown], strict=False)
    ]
    can_end = [*(document.first | between).tolist(), True]  # before this token
    position = 0
    starts: list[int] = []
    while position + length <= len(shown):
        taken = can_begin[position] and can_end[position + length]
        if taken:
            starts.append(position)
        position += length if taken else 1
    return starts


def _tags(encoded: Sequence[Encoded], starts: Sequence[Sequence[int]], length: int) -> Mapping[str, Tags]:
    """The tag of the word that holds each window's last token, where every document has tags."""
    if not all(document.tags for document in encoded):
        return {}
    last = [document.tags[start + length - 1] for document, mine in zip(encoded, starts, strict=True) for start in mine]
    names = tuple(sorted(set(last)))
    code = {name: number for number, name in enumerate(names)}
    return {SPEECH: (torch.tensor([code[tag] for tag in last], dtype=torch.int64), names)}


def _evenly(
    origin: Int[np.ndarray, " window"], most: int, least_documents: int, generator: np.random.Generator
) -> Int[np.ndarray, " drawn"]:
    """Indices of at most so many windows, drawn at random, at most the same number from each document.

    That number is the least that gives as many as are wanted, or else the largest with which no document gives more
    than one in `least_documents`.
    """
    _, document, sizes = np.unique(origin, return_inverse=True, return_counts=True)
    each = 0
    for number in range(1, int(sizes.max(initial=0)) + 1):
        total = int(np.minimum(sizes, number).sum())
        if number * least_documents > total:
            break
        each = number
        if total >= most:
            break
    shuffled = np.lexsort((generator.random(len(origin)), document))  # by document, at random within it
    turn = np.arange(len(origin)) - np.repeat(sizes.cumsum() - sizes, sizes)
    drawn = np.lexsort((generator.random(len(origin)), turn))[: min(most, int(np.minimum(sizes, each).sum()))]
    return np.sort(shuffled[drawn])


def _vocabulary(tokenizer: Tokenizer, training: Sequence[Encoded], seed: int) -> Vocabulary:
    entries = pieces(tokenizer)
    counts = np.bincount(np.concatenate([document.tokens for document in training]), minlength=len(entries))
    return Vocabulary(entries, torch.from_numpy(counts.astype(np.int64)), topics(training, len(entries), seed=seed))


def _published(tokenizer: Tokenizer, training: Sequence[Encoded], seed: int) -> Vocabulary:
    """A published vocabulary, with topics of the tokens that occur, which are fewer."""
    entries = pieces(tokenizer)
    occurring, renumbered = np.unique(np.concatenate([document.tokens for document in training]), return_inverse=True)
    counts = np.bincount(occurring[renumbered], minlength=len(entries)).astype(np.int64)
    parts = np.split(renumbered, np.cumsum([len(document.tokens) for document in training])[:-1])
    topic_vectors = topics(
        [replace(document, tokens=part) for document, part in zip(training, parts, strict=True)],
        len(occurring),
        seed=seed,
    )
    weights = torch.zeros(len(topic_vectors), len(entries))
    weights[:, torch.from_numpy(occurring).long()] = topic_vectors
    return Vocabulary(entries, torch.from_numpy(counts), weights)
