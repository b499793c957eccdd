"""What documents are about, as weights of tokens."""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits
from torch import Tensor

from thalweg.stimuli.encoding import Encoded

TOPICS = 32
PASSAGE = 256  # tokens of a document that are taken to keep to one subject
PASSAGES = 3000  # that topics are fitted on, at most: more cost time and change little
COMMON = 0.3  # of passages: what more of them have says nothing of their subject (articles, punctuation)
ROUNDS = 50  # of the factorisation: four times as many change the error by a thousandth


def counted(rows: Iterable[Int[np.ndarray, " _"]], entries: int) -> csr_array:
    """How often each row holds each of so many tokens (row, token): a sparse matrix, for vocabularies are large."""
    counts = [np.unique(row, return_counts=True) for row in rows]
    ends = np.cumsum([0, *(len(tokens) for tokens, _ in counts)])
    tokens, times = (np.concatenate(parts) for parts in zip(*counts, strict=True))
    return csr_array((times, tokens.astype(np.int32), ends.astype(np.int32)), (len(counts), entries))


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
        document.tokens[start : start + PASSAGE]
        for document in documents
        for start in range(0, max(1, len(document.tokens)), PASSAGE)
    ]
    if len(passages) > PASSAGES:
        chosen = np.random.default_rng(seed).choice(len(passages), PASSAGES, replace=False)
        passages = [passages[index] for index in np.sort(chosen)]
    counts = counted(passages, entries).astype(np.float64)
    rare = np.asarray((counts > 0).mean(0)).ravel() <= COMMON
    weighted = csr_array(TfidfTransformer(sublinear_tf=True).fit_transform(counts).multiply(rare[None]))
    factors = NMF(min(TOPICS, len(passages), entries), init="nndsvd", max_iter=ROUNDS, random_state=seed % (1 << 32))
    with threadpool_limits(1), warnings.catch_warnings():  # the sums of several threads differ in the last digits
        warnings.simplefilter("ignore", ConvergenceWarning)
        factors.fit(weighted)
    weights = factors.components_ / factors.components_.sum(1, keepdims=True).clip(min=np.finfo(float).tiny)
    return torch.from_numpy(weights.astype(np.float32))
