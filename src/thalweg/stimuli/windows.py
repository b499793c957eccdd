"""Windows of text: so many tokens each, from which a model says what comes next."""

import codecs
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thalweg.stimuli.showing import Shown

NO_TARGET = -100  # where no next token is known; PyTorch's losses leave such places out
PUNCTUATION = frozenset(b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")

Tags = tuple[Int[Tensor, " stimulus"], tuple[str, ...]]  # a code for each window, and the codes' names


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a ladder: their bytes, how often each occurs in the training documents, and what these are about.

    `topics` are the token weights of topics found in the training documents.
    """

    pieces: tuple[bytes, ...]
    counts: Int[Tensor, " token"]
    topics: Float[Tensor, "topic token"]

    def __len__(self) -> int:
        return len(self.pieces)

    def lengths(self) -> Int[Tensor, " token"]:
        """The bytes of each token."""
        return torch.tensor([len(piece) for piece in self.pieces])

    def text(self, tokens: Int[Tensor, " token"]) -> str:
        """The tokens as text; bytes that are no whole character become a replacement character."""
        return b"".join(self.pieces[token] for token in tokens.tolist()).decode("utf-8", "replace")

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits."""
        digest = hashlib.sha256(repr(self.pieces).encode())
        digest.update(self.counts.long().numpy().tobytes())
        digest.update(self.topics.float().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of text of one length. None overlaps another.

    Attributes:
        tokens: (stimulus, token), indices into the vocabulary.
        following: (stimulus), the token that follows each window, or -100 where none is known.
        documents: (stimulus), the document that each window comes from. No document feeds both halves of the pool.
        labels: (stimulus), the kind of that document, as an index into `label_names`.
        label_names: The names of the kinds.
        vocabulary: The tokens' bytes, how often each occurs in the training documents, and these documents' topics.
        tags: Further properties by name, as the part of speech of the last word: codes (stimulus), and their names.
        modality: `text`.
        notes: Lines about what the reader took, and what it passed over and why.

    Example:
        >>> import torch, thalweg
        >>> from thalweg.stimuli.windows import Vocabulary
        >>> words = Vocabulary((b"a ", b"b "), torch.tensor([3, 5]), torch.ones(1, 2))
        >>> one = torch.zeros(1, dtype=torch.long)
        >>> windows = thalweg.Windows(torch.tensor([[0, 1, 1]]), one, one, one, ("letters",), words)
        >>> windows.texts()
        ['a b b ']
    """

    tokens: Int[Tensor, "stimulus token"]
    following: Int[Tensor, " stimulus"]
    documents: Int[Tensor, " stimulus"]
    labels: Int[Tensor, " stimulus"]
    label_names: tuple[str, ...]
    vocabulary: Vocabulary
    tags: Mapping[str, Tags] = field(default_factory=dict)
    modality: str = "text"
    notes: tuple[str, ...] = ()  # what the reader took, and what it passed over and why: one line each

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens in a window."""
        return self.tokens.shape[1]

    def take(self, which: Int[Tensor, " taken"] | slice) -> "Windows":
        """The windows at these places, in this order."""
        return replace(
            self,
            tokens=self.tokens[which],
            following=self.following[which],
            documents=self.documents[which],
            labels=self.labels[which],
            tags={name: (codes[which], names) for name, (codes, names) in self.tags.items()},
        )

    def batch(self, which: Int[Tensor, " taken"] | slice) -> Int[Tensor, "taken token"]:
        """What a model is given: the tokens."""
        return self.tokens[which].long()

    def targets(self, which: Int[Tensor, " taken"] | slice) -> Int[Tensor, "taken token"]:
        """What a model is to say at each token: the next one, or NO_TARGET."""
        return torch.cat([self.tokens[which][:, 1:], self.following[which][:, None]], 1).long()

    def texts(self) -> list[str]:
        """The windows as text."""
        return [self.vocabulary.text(tokens) for tokens in self.tokens]

    def low_level(self) -> Float[Tensor, "stimulus statistic"]:
        """Log-frequency of the last token, length in bytes, and the shares of capitals, digits and punctuation."""
        counts = self.vocabulary.counts.double()
        frequency = ((counts + 1) / (counts.sum() + len(counts))).log()[self.tokens[:, -1].long()] / math.log(10)
        rows = [b"".join(self.vocabulary.pieces[token] for token in tokens) for tokens in self.tokens.tolist()]
        shares = [
            [
                sum(65 <= byte <= 90 for byte in row) / max(1, len(row)),
                sum(48 <= byte <= 57 for byte in row) / max(1, len(row)),
                sum(byte in PUNCTUATION for byte in row) / max(1, len(row)),
            ]
            for row in rows
        ]
        lengths = torch.tensor([float(len(row)) for row in rows])
        return torch.cat([frequency.float()[:, None], lengths[:, None], torch.tensor(shares)], 1)

    def last_token(self) -> Int[Tensor, " stimulus"]:
        """The last token."""
        return self.tokens[:, -1].long()

    def groups(self) -> Int[Tensor, " stimulus"]:
        """The document that each window comes from."""
        return self.documents

    def show(self, which: int) -> Shown:
        """One window, token by token; a character of several tokens stands with the last of them."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        last = self.length - 1
        pieces = tuple(
            decoder.decode(self.vocabulary.pieces[token], final=index == last)
            for index, token in enumerate(self.tokens[which].tolist())
        )
        return Shown(self.label_names[int(self.labels[which])], pieces=pieces)

    def content_hash(self) -> str:
        """Sixteen hexadecimal digits that differ whenever a window, a label, the vocabulary or their order does."""
        digest = hashlib.sha256(repr((tuple(self.tokens.shape), self.label_names)).encode())
        for tensor in (self.tokens, self.following, self.documents, self.labels):
            digest.update(tensor.long().contiguous().numpy().tobytes())
        for name, (codes, names) in sorted(self.tags.items()):
            digest.update(repr((name, names)).encode())
            digest.update(codes.long().contiguous().numpy().tobytes())
        digest.update(self.vocabulary.content_hash().encode())
        return digest.hexdigest()[:16]
