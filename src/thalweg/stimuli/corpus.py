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

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as InTurn
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from thalweg.errors import ThalwegError, readable
from thalweg.stimuli import Source, Splits
from thalweg.stimuli.docstrings import embedded
from thalweg.stimuli.documents import BLOCK, Document, Texts, read, without_repeats
from thalweg.stimuli.scripts import MARKS, unspaced
from thalweg.stimuli.windows import NO_TARGET, Tags, Vocabulary, Windows

__all__ = [
    "Document",
    "Encoded",
    "byte_pairs",
    "embedded",
    "encode",
    "encode_whole",
    "pieces",
    "read",
    "split",
    "splits",
    "windows",
]

LENGTH = 24  # tokens in a window: about fifteen words
ENTRIES = 2048  # of the vocabulary
POOL, VALIDATION = 6000, 2000  # windows, at most
POOL_SHARE, VALIDATION_SHARE = 0.2, 0.05  # of the documents
POOL_DOCUMENTS = 4  # at least: two halves of two documents each; and at most a quarter of the pool from one document
LEAST_DOCUMENTS = 8  # four for the pool, one for validation, three for training
TOPICS = 32
PASSAGE = 256  # tokens of a document that are taken to keep to one subject
PASSAGES = 3000  # that topics are fitted on, at most: more cost time and change little
COMMON = 0.3  # of passages: what more of them have says nothing of their subject (articles, punctuation)
ROUNDS = 50  # of the factorisation: four times as many change the error by a thousandth
LETTER = rf"\w{MARKS}"  # Python's \w lacks the marks that belong to letters, as the vowels of Hindi and Thai
RUN = (
    "{1,200}"  # of a longer one, as a text without spaces may be, each part is a word: merges cost its length each time
)
WORD = re.compile(rf"\n| ?[{LETTER}]{RUN}(?:['’][{LETTER}]{RUN})*| ?[^{LETTER} \n]{RUN}| ")
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how vocabularies in SentencePiece's manner spell a byte
SPEECH = "part of speech"


@dataclass(frozen=True, eq=False)
class Encoded:
    """A document as tokens: which are the first of a word, and the tag of each one's word where words are tagged.

    `unspaced` says before which tokens the text may be cut because its script writes no spaces; empty where none may.
    """

    tokens: Int[np.ndarray, " token"]
    first: Bool[np.ndarray, " token"]
    tags: tuple[str, ...] = ()
    unspaced: Bool[np.ndarray, " token_or_none"] = field(default_factory=lambda: np.zeros(0, np.bool_))


def splits(source: Source, seed: int, *, length: int = LENGTH, tokenizer: Tokenizer | None = None) -> Splits:
    """The windows of a user's file or, if there is none, of the English that every installation carries.

    Raises:
        ThalwegError: see `read` and `split`.
    """
    if length < 2:
        raise ThalwegError(f"length is {length}; at least 2 tokens in a window were expected (--length)")
    texts = _embedded() if source.path is None else read(source)
    origin = "the embedded English" if source.path is None else readable(source.path)
    return split(texts.documents, seed=seed, length=length, tokenizer=tokenizer, origin=origin, notes=(texts.note,))


def _embedded() -> Texts:
    """The English of the installed libraries, and what is to be said of it."""
    documents = embedded()
    characters = sum(len(document.text) for document in documents)
    return Texts(documents, f"the embedded English: {len(documents):,} documents of {characters:,} characters")


def split(
    documents: Sequence[Document],
    *,
    seed: int,
    length: int = LENGTH,
    tokenizer: Tokenizer | None = None,
    entries: int = ENTRIES,
    pool: int = POOL,
    validation: int = VALIDATION,
    origin: str = "the text",
    notes: tuple[str, ...] = (),
) -> Splits:
    """Windows for training, for validation and for the pool; no document is in two of them, no window is there twice.

    At most `pool` and `validation` windows are drawn at random, as many from one document as from another as far as
    they have them, and no more than a quarter of the pool from one. A window's document is a place in the random order.
    The tokens are those of the `tokenizer` or, without one, of an encoding with so many `entries` that is trained on
    the training documents. Errors call the text by its `origin`; the pool's notes are those given and one more.

    Raises:
        ThalwegError: too few documents when repeated paragraphs are removed, or none long enough for a window.
    """
    if length < 2 or entries <= 256:
        raise ThalwegError(f"length is {length}, entries {entries}; at least 2 tokens and 257 entries were expected")
    kept, repeats = without_repeats(documents)
    _check_number(kept, repeats, origin)
    generator = np.random.default_rng(seed)
    shuffled = [kept[place] for place in generator.permutation(len(kept))]
    before_pool = len(kept) - max(POOL_DOCUMENTS, round(POOL_SHARE * len(kept)))
    trained = before_pool - max(1, round(VALIDATION_SHARE * len(kept)))
    encoded, vocabulary = _encoded(shuffled, trained, tokenizer, entries, seed)
    _check_longest(encoded, length, origin)
    every = windows(shuffled, encoded, vocabulary, length=length)
    of = every.documents.numpy()
    in_validation = np.flatnonzero((of >= trained) & (of < before_pool))
    in_pool = np.flatnonzero(of >= before_pool)
    chosen = (
        np.flatnonzero(of < trained),
        in_validation[_evenly(of[in_validation], validation, 1, generator)],
        in_pool[_evenly(of[in_pool], pool, POOL_DOCUMENTS, generator)],
    )
    _check_parts(chosen, len(np.unique(of)), len(kept), length, origin)
    note = (
        f"windows of {length} tokens from {len(np.unique(of)):,} of {len(kept):,} documents: {len(chosen[0]):,} for "
        f"training, {len(chosen[1]):,} for validation, {len(chosen[2]):,} in the pool; left out: {repeats:.1%} of the "
        "paragraphs, which are repeats"
    )
    train, checked, held_out = (every.take(torch.from_numpy(part)) for part in chosen)
    return Splits(train, checked, replace(held_out, notes=(*notes, note)))


def _check_number(kept: Sequence[Document], repeats: float, origin: str) -> None:
    """Make sure that there are enough documents to be dealt out."""
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
    longest = max(len(one.tokens) for one in encoded)
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
    """The documents as tokens and their vocabulary, which knows the first so many of them alone."""
    if tokenizer is not None:
        encoded = encode_whole(shuffled, tokenizer)
        return encoded, _published(tokenizer, encoded[:trained], seed)
    own = byte_pairs((document.text for document in shuffled[:trained]), entries)
    encoded = encode(shuffled, own)
    return encoded, _vocabulary(own, encoded[:trained], seed)


def byte_pairs(texts: Iterable[str], entries: int = ENTRIES) -> Tokenizer:
    """A byte-level byte-pair encoding with at most so many entries, trained on texts; the same for the same texts.

    All 256 bytes are entries, so that there is no text that it can't encode.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = InTurn(
        [Split(Regex(WORD.pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=entries, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def pieces(tokenizer: Tokenizer) -> tuple[bytes, ...]:
    """The bytes of each token, by its number; none where no token has that number.

    Entries of a byte-level encoding are spelt with one printable character a byte: printable ones stand for themselves,
    the others follow from the 256th character on (Radford et al. 2019, the code of GPT-2). In SentencePiece's manner
    (Kudo & Richardson 2018) "▁" is a space, and "<0x0A>" the byte 10. Tokens that were added to a vocabulary, such as
    those for the beginning and the end of a text, are their own text.
    """
    spelt = _from_printable if "ByteLevel" in f"{tokenizer.pre_tokenizer} {tokenizer.decoder}" else _from_sentence_piece
    entries = tokenizer.get_vocab(with_added_tokens=True)
    added = tokenizer.get_added_tokens_decoder()
    found = [b""] * (1 + max(entries.values()))
    for entry, number in entries.items():
        found[number] = added[number].content.encode() if number in added else spelt(entry)
    return tuple(found)


def _printable() -> dict[str, int]:
    """The byte that each character of a byte-level encoding stands for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF = _printable()


def _from_printable(entry: str) -> bytes:
    known = all(character in BYTE_OF for character in entry)
    return bytes(BYTE_OF[character] for character in entry) if known else entry.encode()


def _from_sentence_piece(entry: str) -> bytes:
    byte = BYTE.fullmatch(entry)
    return bytes([int(byte[1], 16)]) if byte else entry.replace("▁", " ").encode()


def encode(documents: Sequence[Document], tokenizer: Tokenizer) -> list[Encoded]:
    """Each document as tokens; every different word is encoded once."""
    known: dict[str, list[int]] = {}
    entries = pieces(tokenizer)
    found = []
    for document in documents:
        words = WORD.findall(document.text)
        for word in words:
            if word not in known:
                known[word] = tokenizer.encode(word, add_special_tokens=False).ids
        sizes = np.array([len(known[word]) for word in words], np.int64)
        first = np.zeros(int(sizes.sum()), np.bool_)
        first[sizes.cumsum() - sizes] = True
        tokens = np.array([token for word in words for token in known[word]], np.int32)
        last = np.array([len(word) for word in words], np.int64).cumsum() - 1
        spoken, joints = _spoken(document, np.repeat(last, sizes)), unspaced(document.text)
        between = _at_characters(tokens, entries, joints) if joints.any() else joints[:0]
        found.append(Encoded(tokens, first, spoken, between))
    return found


def _at_characters(
    tokens: Int[np.ndarray, " token"], entries: Sequence[bytes], places: Bool[np.ndarray, " place"]
) -> Bool[np.ndarray, " token"]:
    """Whether a token begins at one of these places of the text: where it begins with a whole character, not within."""
    shown = [entries[token] for token in tokens.tolist()]
    characters = np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in shown], np.int64)
    whole = np.array([piece[0] & 0xC0 != 0x80 for piece in shown], np.bool_)  # continuing bytes of UTF-8 are 10xxxxxx
    return np.asarray(whole & places[characters.cumsum() - characters])


def encode_whole(documents: Sequence[Document], tokenizer: Tokenizer) -> list[Encoded]:
    """Each document as the tokens that a published tokenizer makes of all of it, nothing added or cut.

    What a text says is text, even where it spells one of the tokenizer's special tokens.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    found = []
    for document in documents:
        encoding = tokenizer.encode(document.text, add_special_tokens=False)
        tokens = np.array(encoding.ids, np.int32)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        starts = np.array([word.start() for word in WORD.finditer(document.text)], np.int64)
        ends = np.append(starts[1:], len(document.text))
        word = np.searchsorted(starts, (offsets[:, 1] - 1).clip(min=0), side="right") - 1  # that a token ends in
        last = ends[word] - 1 if len(tokens) else word
        first, joints = _first(document.text, starts, offsets), unspaced(document.text)
        between = joints[offsets[:, 0]] & _after_all(offsets) if joints.any() else joints[:0]
        found.append(Encoded(tokens, first, _spoken(document, last), between))
    return found


def _after_all(offsets: Int[np.ndarray, "token 2"]) -> Bool[np.ndarray, " token"]:
    """Whether a token begins after the end of every token before: of those that share a place, as the bytes of one
    character do, the first alone.
    """
    return np.concatenate([[0], np.maximum.accumulate(offsets[:-1, 1])]) <= offsets[:, 0]


def _first(
    text: str, starts: Int[np.ndarray, " word"], offsets: Int[np.ndarray, "token 2"]
) -> Bool[np.ndarray, " token"]:
    """Whether a word begins with each token: at the token's start, and after the end of every token before.

    Some tokenizers leave the space before a word out of its first token's place. Of tokens that share a place, as the
    bytes of one character do, the first counts.
    """
    if not len(offsets):
        return np.zeros(0, np.bool_)
    start = starts[np.searchsorted(starts, offsets[:, 0], side="right").clip(min=1) - 1]
    spaced = np.array([text[place] == " " for place in starts.tolist()])[np.searchsorted(starts, start)]
    before = np.concatenate([[0], np.maximum.accumulate(offsets[:-1, 1])])
    return np.asarray((offsets[:, 0] - start <= spaced) & (before <= start))


def _spoken(document: Document, last: Int[np.ndarray, " token"]) -> tuple[str, ...]:
    """For each token, the tag at the last character of its word, if there are tags."""
    if not document.tags:
        return ()
    place = np.searchsorted(np.array(document.ends, np.int64), last, side="right").clip(max=len(document.tags) - 1)
    return tuple(document.tags[tagged] for tagged in place)


def windows(
    documents: Sequence[Document], encoded: Sequence[Encoded], vocabulary: Vocabulary, *, length: int
) -> Windows:
    """All windows of so many tokens of each document, the same one only once, with the token that follows each.

    A window begins at the first token of a word that whitespace or a line break precedes, and ends where the next token
    is the first of a word, or the document ends; in scripts without spaces, it begins and ends between characters. One
    that would end within a word is not taken, but the next that can begin after its first word. `tags` has the tag of
    the word that its last token belongs to.
    """
    starts = [_starts(one, vocabulary, length) for one in encoded]
    rows = [one.tokens[start : start + length] for one, mine in zip(encoded, starts, strict=True) for start in mine]
    tokens = np.stack(rows) if rows else np.empty((0, length), np.int32)  # (window, token)
    following = [
        int(one.tokens[start + length]) if start + length < len(one.tokens) else NO_TARGET
        for one, mine in zip(encoded, starts, strict=True)
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
    """Where windows begin in a document."""
    if not len(document.tokens):
        return []
    shown = [vocabulary.pieces[token] for token in document.tokens.tolist()]
    between = document.unspaced if len(document.unspaced) else np.zeros(len(shown), np.bool_)
    can_begin = [
        bool(cut) or (bool(first) and piece != b"\n" and (piece.startswith(b" ") or before.endswith(b"\n")))
        for cut, first, piece, before in zip(between, document.first, shown, [b"\n", *shown], strict=False)
    ]
    can_end = [*(document.first | between).tolist(), True]  # before this token
    found, place = [], 0
    while place + length <= len(shown):
        taken = can_begin[place] and can_end[place + length]
        if taken:
            found.append(place)
        place += length if taken else 1
    return found


def _tags(encoded: Sequence[Encoded], starts: Sequence[Sequence[int]], length: int) -> Mapping[str, Tags]:
    """The tag of the word that holds each window's last token, where every document has tags."""
    if not all(one.tags for one in encoded):
        return {}
    last = [one.tags[start + length - 1] for one, mine in zip(encoded, starts, strict=True) for start in mine]
    names = tuple(sorted(set(last)))
    code = {name: number for number, name in enumerate(names)}
    return {SPEECH: (torch.tensor([code[tag] for tag in last], dtype=torch.int64), names)}


def _evenly(
    origin: Int[np.ndarray, " window"], most: int, least_documents: int, generator: np.random.Generator
) -> Int[np.ndarray, " drawn"]:
    """Places of at most so many windows, drawn at random, at most the same number from each document.

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
    counts = np.bincount(np.concatenate([one.tokens for one in training]), minlength=len(entries))
    return Vocabulary(entries, torch.from_numpy(counts.astype(np.int64)), topics(training, len(entries), seed=seed))


def _published(tokenizer: Tokenizer, training: Sequence[Encoded], seed: int) -> Vocabulary:
    """A vocabulary that is there already: topics are sought among the tokens that occur, of which there are fewer."""
    entries = pieces(tokenizer)
    occurring, renumbered = np.unique(np.concatenate([one.tokens for one in training]), return_inverse=True)
    counts = np.bincount(occurring[renumbered], minlength=len(entries)).astype(np.int64)
    parts = np.split(renumbered, np.cumsum([len(one.tokens) for one in training])[:-1])
    found = topics(
        [replace(one, tokens=part) for one, part in zip(training, parts, strict=True)], len(occurring), seed=seed
    )
    weights = torch.zeros(len(found), len(entries))
    weights[:, torch.from_numpy(occurring).long()] = found
    return Vocabulary(entries, torch.from_numpy(counts), weights)


def counted(rows: Iterable[Int[np.ndarray, " _"]], entries: int) -> csr_array:
    """How often each row holds each of so many tokens (row, token): a sparse matrix, for vocabularies are large."""
    found = [np.unique(row, return_counts=True) for row in rows]
    ends = np.cumsum([0, *(len(tokens) for tokens, _ in found)])
    tokens, times = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return csr_array((times, tokens.astype(np.int32), ends.astype(np.int32)), (len(found), entries))


def topics(documents: Sequence[Encoded], entries: int, *, seed: int) -> Float[Tensor, "topic token"]:
    """What documents are about: topics as weights of tokens; a topic's weights add up to one.

    Non-negative factors of passages of the documents by tokens, counts weighted by how few passages have the token
    (TF-IDF). Tokens in more than three tenths of the passages have no weight. There are 32 topics, or as many as there
    are passages; where the documents are about less, all weights of some topics are 0.
    """
    from sklearn.decomposition import NMF  # slow to import, and only needed here
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfTransformer

    passages = [
        one.tokens[start : start + PASSAGE] for one in documents for start in range(0, max(1, len(one.tokens)), PASSAGE)
    ]
    if len(passages) > PASSAGES:
        chosen = np.random.default_rng(seed).choice(len(passages), PASSAGES, replace=False)
        passages = [passages[place] for place in np.sort(chosen)]
    counts = counted(passages, entries).astype(np.float64)
    rare = np.asarray((counts > 0).mean(0)).ravel() <= COMMON
    weighted = csr_array(TfidfTransformer(sublinear_tf=True).fit_transform(counts).multiply(rare[None]))
    factors = NMF(min(TOPICS, len(passages), entries), init="nndsvd", max_iter=ROUNDS, random_state=seed % (1 << 32))
    with threadpool_limits(1), warnings.catch_warnings():  # the sums of several threads differ in the last digits
        warnings.simplefilter("ignore", ConvergenceWarning)
        factors.fit(weighted)
    weights = factors.components_ / factors.components_.sum(1, keepdims=True).clip(min=np.finfo(float).tiny)
    return torch.from_numpy(weights.astype(np.float32))
