"""Units whose truth comes from outside: synthetic features in superposition, a transformer that was compiled and not
trained, and functions of strings whose meaning is written down.
"""

from collections.abc import Callable
from functools import partial

import polars as pl
import pytest
import torch
from torch import Tensor, nn

from support.planted import scored, value
from thalweg import Images, Observer
from thalweg.measures.headlines import HEADLINES
from thalweg.models.hooks import capture_activations
from thalweg.models.records import Layer
from thalweg.observers.base import OBSERVERS, extract_features
from thalweg.observers.embedding import ObserverView, build_view, centred, standardised
from thalweg.recording.readout import rotation
from thalweg.scoring.units import ObserverOnPool
from thalweg.stimuli.windows import NO_TARGET, Vocabulary, Windows

FEATURES, WIDTH = 48, 12
CHILDREN = (1, 2, 3)  # features that are active only where feature 0 is


def crisp(rows: pl.DataFrame, observer: str) -> Tensor:
    return value(rows, HEADLINES["crisp"], observer=observer, capacity="1")


@pytest.fixture(scope="module")
def synthetic() -> tuple[Tensor, Tensor]:
    """Features with Zipf's frequencies, one of them the parent of three, and their sum in fewer dimensions."""
    from sae_lens.synthetic import (  # slow to import, and every process of the tests reads this file
        ActivationGenerator,
        FeatureDictionary,
        HierarchyNode,
        hierarchy_modifier,
        zipfian_firing_probabilities,
    )

    torch.manual_seed(0)
    chance = zipfian_firing_probabilities(FEATURES, exponent=0.5, max_prob=0.25, min_prob=0.05)
    tree = HierarchyNode(0, children=[HierarchyNode(child) for child in CHILDREN])
    generator = ActivationGenerator(FEATURES, chance, 0.3, 1.0, modify_activations=hierarchy_modifier([tree]))
    activations = generator.sample(2000)
    with torch.no_grad():
        return activations, FeatureDictionary(FEATURES, WIDTH, initializer=None, seed=0)(activations)


def test_features_are_crisp_and_the_axes_of_their_superposition_are_not(synthetic: tuple[Tensor, Tensor]):
    features, hidden = synthetic
    pool = Images(torch.zeros(len(features), 1, 1, 1, dtype=torch.uint8), torch.zeros(len(features)).long(), ("any",))
    view = ObserverView(centred(features), standardised(features.clone()))
    turned = (hidden / hidden.std(0)) @ rotation(WIDTH, seed=1)
    watcher = ObserverOnPool(Observer("features", 1, lambda _: features), view)
    rows = scored(torch.cat([features, hidden, turned], 1), pool, [watcher], torch.zeros(len(features), 1))
    single, axes, rotated = crisp(rows, "features").split([FEATURES, WIDTH, WIDTH])
    assert single.min() > 0.95  # the children's too: their parent is active wherever they are, and elsewhere
    assert axes.max() < single.min()
    assert axes.mean() < 0.85
    assert axes.mean() == pytest.approx(float(rotated.mean()), abs=0.06)  # no axis is special in superposition


ALPHABET = "abcdefghijklmnopqrstuvwxyz"
LETTERS = 6
PAIRS = [(a, b) for a in range(LETTERS) for b in range(0, LETTERS, 3)]  # current and previous letter of each neuron


def letters(count: int, kinds: int) -> Windows:
    """Windows of eight letters, each equally likely."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(kinds, (count, 8), generator=generator)
    pieces = tuple(bytes([97 + letter]) for letter in range(kinds))
    vocabulary = Vocabulary(pieces, torch.ones(kinds).long(), torch.zeros(2, kinds))
    documents = torch.arange(count) // 10
    return Windows(tokens, torch.full((count,), NO_TARGET), documents, documents % 2, ("a", "b"), vocabulary)


class Compiled(nn.Module):
    """A transformer whose every dimension has a name: an embedding of letters and places, one hard attention head that
    copies the letter before, and a perceptron that looks up pairs of letters.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.residual, self.lookup = nn.Identity(), nn.Identity()
        self.attends = torch.eye(length).roll(-1, 1).T.tril()  # place i looks at place i - 1
        self.current = torch.zeros(len(PAIRS), LETTERS)
        self.previous = torch.zeros(len(PAIRS), LETTERS)
        for neuron, (current, previous) in enumerate(PAIRS):
            self.current[neuron, current] = self.previous[neuron, previous] = 1

    def forward(self, tokens: Tensor) -> Tensor:
        current = nn.functional.one_hot(tokens.long(), LETTERS).float()
        previous = torch.einsum("qk,bkd->bqd", self.attends, current)
        residual = self.residual(torch.cat([current, previous], 2))
        both = residual[..., :LETTERS] @ self.current.T + residual[..., LETTERS:] @ self.previous.T
        return self.lookup(torch.relu(both - 1))


def with_suffix(pool: Windows) -> ObserverOnPool:
    """The observer that names token t at place -k."""
    suffix = OBSERVERS["suffix"]
    return ObserverOnPool(suffix, build_view(suffix, {"suffix": extract_features(suffix, pool)}, pool))


def test_a_compiled_transformer_is_read_as_it_was_compiled():
    pool = letters(2400, LETTERS)
    layers = [Layer("residual", "last", unit_axis=2), Layer("lookup", "last", unit_axis=2)]
    model = Compiled(8)
    with torch.inference_mode(), capture_activations(model, layers) as outputs:
        model(pool.batch(slice(0, len(pool))))
        residual, lookup = (outputs[layer.name][:, -1] for layer in layers)
    turned = (residual / residual.std(0)) @ rotation(2 * LETTERS, seed=2)
    rows = scored(torch.cat([residual, lookup, turned], 1), pool, [with_suffix(pool)], torch.zeros(len(pool), 1))
    sizes = [2 * LETTERS, len(PAIRS), 2 * LETTERS]
    names, pairs, rotated = crisp(rows, "suffix").split(sizes)
    _, by_two, _ = value(rows, "one_sided_capacity", observer="suffix", capacity="2").split(sizes)
    assert names.min() == 1
    assert pairs.mean() == pytest.approx(1 - 1 / (2 * LETTERS), abs=0.03)  # one letter is right, and ties with others
    assert by_two.min() == 1  # two letters say it all
    assert rotated.mean() < 0.9


def ends_in(text: str, letters: str) -> float:
    """The last letter is one of these: as many tokens as there are letters, at one place."""
    return float(text[-1] in letters)


def holds(text: str, letters: str) -> float:
    """One of these letters is there: as many tokens as there are letters, at eight places."""
    return float(any(letter in text for letter in letters))


def counts(text: str, letters: str) -> float:
    """How many of these letters there are: a dense unit."""
    return float(sum(text.count(letter) for letter in letters))


SETS = [ALPHABET[start : start + 5] for start in range(0, 20, 2)]
MEANINGS: dict[str, list[Callable[[str], float]]] = {
    "ends in a letter": [partial(ends_in, letters=letter) for letter in ALPHABET[:10]],
    "ends in one of five": [partial(ends_in, letters=five) for five in SETS],
    "holds a letter": [partial(holds, letters=letter) for letter in ALPHABET[:10]],
    "counts five letters": [partial(counts, letters=five) for five in SETS],
}


def test_functions_of_strings_are_crisp_if_one_name_says_what_they_mean():
    pool = letters(2400, len(ALPHABET))
    meanings = [meaning for each in MEANINGS.values() for meaning in each]
    units = torch.tensor([[meaning(text) for meaning in meanings] for text in pool.texts()])
    rows = scored(units, pool, [with_suffix(pool)], torch.zeros(len(pool), 1))

    def means(capacity: str) -> dict[str, float]:
        values = value(rows, "one_sided_capacity", observer="suffix", capacity=capacity)
        return dict(zip(MEANINGS, values.reshape(len(MEANINGS), -1).mean(1).tolist(), strict=True))

    single, many = means("1"), means("20")
    assert single["ends in a letter"] == 1
    # one of n names that are equally likely is right for 1/n of the stimuli, and a guess for the others
    assert single["ends in one of five"] == pytest.approx(0.5 + 1 / (2 * 5), abs=0.03)
    assert single["holds a letter"] == pytest.approx(0.5 + 1 / (2 * 8), abs=0.03)
    assert single["counts five letters"] < 0.6
    assert many["ends in one of five"] > 0.95  # named mixtures climb with the number of features
    assert many["holds a letter"] > single["holds a letter"] + 0.2
    assert many["counts five letters"] > single["counts five letters"] + 0.1
