"""Documents as tokens, with the places where words begin."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from thalweg.stimuli.documents import Document
from thalweg.stimuli.scripts import unspaced
from thalweg.stimuli.vocabulary import pieces
from thalweg.stimuli.words import WORD

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


def encode(documents: Sequence[Document], tokenizer: Tokenizer) -> list[Encoded]:
    """Each document as tokens; every different word is encoded once."""
    known: dict[str, list[int]] = {}
    entries = pieces(tokenizer)
    encoded = []
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
        encoded.append(Encoded(tokens, first, spoken, between))
    return encoded


def _at_characters(
    tokens: Int[np.ndarray, " token"], entries: Sequence[bytes], allowed: Bool[np.ndarray, " place"]
) -> Bool[np.ndarray, " token"]:
    """Whether a token begins at one of these places of the text: where it begins with a whole character, not within."""
    shown = [entries[token] for token in tokens.tolist()]
    characters = np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in shown], np.int64)
    whole = np.array([piece[0] & 0xC0 != 0x80 for piece in shown], np.bool_)  # continuing bytes of UTF-8 are 10xxxxxx
    return np.asarray(whole & allowed[characters.cumsum() - characters])


def encode_whole(documents: Sequence[Document], tokenizer: Tokenizer) -> list[Encoded]:
    """Each document as the tokens that a published tokenizer makes of all of it, nothing added or cut.

    What a text says is text, even where it spells one of the tokenizer's special tokens.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    encoded = []
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
        encoded.append(Encoded(tokens, first, _spoken(document, last), between))
    return encoded


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
    spaced = np.array([text[position] == " " for position in starts.tolist()])[np.searchsorted(starts, start)]
    before = np.concatenate([[0], np.maximum.accumulate(offsets[:-1, 1])])
    return np.asarray((offsets[:, 0] - start <= spaced) & (before <= start))


def _spoken(document: Document, last: Int[np.ndarray, " token"]) -> tuple[str, ...]:
    """For each token, the tag at the last character of its word, if there are tags."""
    if not document.tags:
        return ()
    position = np.searchsorted(np.array(document.ends, np.int64), last, side="right").clip(max=len(document.tags) - 1)
    return tuple(document.tags[tagged] for tagged in position)
