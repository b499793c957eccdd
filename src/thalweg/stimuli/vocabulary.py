"""Vocabularies: trained on text or published, with what each entry stands for."""

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as InTurn
from tokenizers.trainers import BpeTrainer

from thalweg.stimuli.words import WORD

ENTRIES = 2048  # of the vocabulary
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how vocabularies in SentencePiece's manner spell a byte


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
    texts = [b""] * (1 + max(entries.values()))
    for entry, number in entries.items():
        texts[number] = added[number].content.encode() if number in added else spelt(entry)
    return tuple(texts)


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
