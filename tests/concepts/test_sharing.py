"""Whether concepts are shared, where the truth is known by construction."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg import ThalwegError
from thalweg.concepts.estimates import Scores, averaged, mean_of
from thalweg.concepts.measuring import crisp_rows, network_rows, shuffled_rows
from thalweg.concepts.pairs import ConceptPairs, Questions, unrelated
from thalweg.concepts.patching import patched_logits, patching
from thalweg.concepts.representations import Reader, represent
from thalweg.concepts.sharing import (
    MEASURES,
    cka,
    most_active,
    overlap,
    probe,
    probe_within,
    retrieval,
    shared_units,
)
from thalweg.models.records import Layer

CONCEPTS, WIDTH = 60, 48
LAYER = Layer("embedding", "last", unit_axis=2)


class Lookup(nn.Module):
    """A language model of one layer: the next token depends on the last two tokens' vectors alone."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(table)
        self.logits = nn.Parameter(torch.randn(table.shape[1], len(table), generator=seeded(9)))

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.embedding(tokens)
        before = functional.pad(vectors[:, :-1], (0, 0, 1, 0))
        return (vectors + before) @ self.logits


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(*, classes: Tensor | None = None, questions: Questions | None = None) -> ConceptPairs:
    """Concept i is token i in one language and token CONCEPTS + i in the other; a particle follows."""
    words = torch.arange(2 * CONCEPTS).view(2, CONCEPTS, 1)
    tokens = torch.stack([words, torch.full_like(words, 2 * CONCEPTS)], 3)
    places = torch.zeros(2, CONCEPTS, 1, dtype=torch.long)
    return ConceptPairs(tokens, places, places + 1, classes=classes, questions=questions)


def table(*, shared: bool) -> Tensor:
    """Vectors of all words: the second language has those of the first, and an offset, or vectors of its own."""
    first, other = torch.randn(2, CONCEPTS, WIDTH, generator=seeded(1))
    second = first + 3.0 if shared else other
    return torch.cat([first, second, torch.zeros(1, WIDTH)])


@pytest.fixture(scope="module")
def readers() -> dict[str, Reader]:
    return {name: Reader(Lookup(table(shared=name == "shared")).eval()) for name in ("shared", "apart")}


def representations(reader: Reader) -> Tensor:
    return represent(reader, pairs(), [LAYER])["embedding"]


def test_two_languages_with_one_table_share_everything(readers: dict[str, Reader]):
    pair = representations(readers["shared"])
    for measure in (retrieval, cka, overlap):
        assert measure(pair).value == pytest.approx(1.0, abs=1e-6)
    active = (pair - pair.mean(1, keepdim=True)) / pair.std(1, correction=0, keepdim=True) > 2
    assert shared_units(pair).value == pytest.approx(float(active[0].sum(1).double().mean()))


def test_unrelated_languages_are_at_chance(readers: dict[str, Reader]):
    pair = representations(readers["apart"])
    assert retrieval(pair).value < 0.06  # 1 of 60
    assert overlap(pair).value < 0.1  # two random tenths: .053
    assert shared_units(pair).value < 0.15
    other = unrelated(CONCEPTS, 0)
    shuffled = torch.stack([pair[0], pair[1][other]])
    assert cka(pair).value == pytest.approx(cka(shuffled).value, abs=0.06)  # high, as units are many: the control says


def test_cka_is_that_of_its_formula_and_no_rotation_or_scale_changes_it():
    first = torch.randn(30, 5, generator=seeded(2)).double()
    second = torch.cat([first[:, :3], torch.randn(30, 4, generator=seeded(3)).double()], 1)
    x, y = first - first.mean(0), second - second.mean(0)
    expected = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    padded = functional.pad(first, (0, 2))
    assert cka(torch.stack([padded, second])).value == pytest.approx(float(expected))
    turned = 3 * padded @ torch.linalg.qr(torch.randn(7, 7, generator=seeded(4)).double())[0] + 2
    assert cka(torch.stack([turned, second])).value == pytest.approx(float(expected))


def test_the_most_active_units_are_a_tenth():
    active = most_active(torch.randn(2, 6, 40, generator=seeded(5)))
    assert set(active.sum(2).flatten().tolist()) == {4}


def test_a_probe_crosses_where_classes_are_written_alike_and_not_where_they_are_not():
    classes = torch.randint(3, (2, CONCEPTS), generator=seeded(6))
    directions = torch.randn(2, 3, WIDTH, generator=seeded(7))
    same = sum(directions[task][classes[task]] for task in range(2))
    noise = 0.1 * torch.randn(2, CONCEPTS, WIDTH, generator=seeded(8))
    elsewhere = sum(directions[task].roll(1, 1)[classes[task].roll(1)] for task in range(2))
    assert probe(same + noise, classes).value > 0.95
    apart = torch.stack([same, elsewhere]) + noise
    assert probe(apart, classes).value == pytest.approx(1 / 3, abs=0.15)
    assert probe_within(torch.stack([same, same]) + noise, classes).value > 0.95


def test_patching_a_representation_onto_itself_changes_nothing(readers: dict[str, Reader]):
    concepts = pairs()
    tokens, at, ends = (part[1, :, 0] for part in (concepts.tokens, concepts.places, concepts.ends))
    values = readers["apart"].at_places([LAYER], tokens, at)["embedding"]
    patched = patched_logits(readers["apart"], LAYER, tokens, (at, ends), values)
    assert torch.equal(patched, readers["apart"].predictions(tokens, ends))


def test_a_patch_moves_the_prediction_where_languages_share_and_not_where_they_do_not(readers: dict[str, Reader]):
    offset_free = torch.cat([table(shared=True)[:CONCEPTS]] * 2 + [torch.zeros(1, WIDTH)])
    same = patching(Reader(Lookup(offset_free).eval()), pairs(), LAYER, seed=0)
    assert same["patch"].value == pytest.approx(same["patch_within"].value)
    assert same["patch"].value > 10
    apart = patching(readers["apart"], pairs(), LAYER, seed=0)
    assert apart["patch_within"].value > 10
    assert apart["patch"].value < 0.2 * apart["patch_within"].value
    assert same["patch_mismatched"].value < 0.2 * same["patch"].value


def test_all_measures_of_a_network_are_rows(readers: dict[str, Reader]):
    classes = torch.randint(2, (1, CONCEPTS), generator=seeded(6))
    tokens = pairs().tokens[1, :5, 0]
    right = readers["shared"].predictions(tokens, torch.ones(5, dtype=torch.long))[:, :2].argmax(1)
    asked = Questions(tokens, torch.tensor([[0, 1]] * 5), right)
    rows = list(network_rows(readers["shared"], pairs(classes=classes, questions=asked), [LAYER], seed=0))
    whole = {row["measure"]: row for row in rows if row["layer"] == ""}
    patches = {"patch", "patch_mismatched", "patch_within"}
    assert set(whole) == {*MEASURES, "probe", "probe_within", *patches, "carried"}
    assert (whole["carried"]["value"], whole["carried"]["n"]) == (1.0, 5)
    assert whole["retrieval"]["note"] == "chance 0.0167"
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    values = represent(readers["shared"], pairs(), [LAYER])
    shuffled = {row["measure"]: row["value"] for row in shuffled_rows(values, pairs(), seed=0)}
    assert shuffled["retrieval"] == 0.0
    assert set(shuffled) == set(MEASURES)


def test_units_that_answer_in_both_languages_are_scored_apart():
    noise = 0.01 * torch.randn(2, CONCEPTS, 12, generator=seeded(3))
    noise[:, torch.arange(6), torch.arange(6)] += 1  # units 0 to 5 answer to one concept in both languages,
    noise[0, torch.arange(6, 9), torch.arange(6, 9)] += 1  # units 6 to 8 in the first
    noise[1, torch.arange(6, 9) + 20, torch.arange(6, 9)] += 1  # and to another one in the second
    values, units = {"a": noise.clamp_min(0)[:, :, :9]}, torch.arange(1, 9)
    rows = {row["measure"]: row for row in crisp_rows(values, {"a": (units, units / 10)}, seed=0) if not row["layer"]}
    assert (rows["crisp_shared"]["n"], rows["crisp_all"]["n"]) == (5, 8)
    assert rows["crisp_shared"]["value"] == pytest.approx(0.3)
    assert rows["crisp_all"]["value"] == pytest.approx(0.45)
    few = list(crisp_rows(values, {"a": (units[3:], units[3:] / 10)}, seed=0))
    assert few[0]["note"] == "2 units, and 5 were expected"
    assert not list(crisp_rows(values, {}, seed=0))


def test_probes_of_several_tasks_are_solved_together_as_if_each_were_alone():
    classes = torch.randint(3, (2, CONCEPTS), generator=seeded(6))
    pair = torch.randn(2, CONCEPTS, 5, generator=seeded(7))
    together = probe(pair, classes).parts
    apart = (probe(pair, classes[:1]).parts + probe(pair, classes[1:]).parts) / 2
    assert together.tolist() == pytest.approx(apart.tolist())
    classes[1, 3] = -1  # unknown: then each is solved by itself
    assert probe(pair, classes).parts[3] <= 0.5


def test_intervals_hold_what_they_should_and_layers_are_averaged_concept_by_concept():
    parts = torch.tensor([0.0, 1.0] * 50)
    low, high = mean_of(parts).interval(0)
    assert 0.35 < low < 0.45 < 0.55 < high < 0.65
    opposite = averaged([mean_of(parts), mean_of(1 - parts)])
    assert opposite.interval(0) == pytest.approx((0.5, 0.5))
    assert Scores(0.7, parts, 100).interval(0)[0] == pytest.approx(low + 0.2)


def test_too_few_concepts_are_refused():
    assert len(pairs().take(torch.arange(4))) == 4
    with pytest.raises(ThalwegError, match="there are 3 pairs of concepts; at least 4"):
        pairs().take(torch.arange(3))
