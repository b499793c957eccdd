"""Total interpretable capability where the truth is known: networks whose units are planted."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from thalweg import Layer, Modality, Shown
from thalweg.capability.answers import Answers, Missing, answers_to
from thalweg.capability.elimination import SHARES, by_elimination
from thalweg.capability.masked import MaskedModel, masked_model
from thalweg.capability.refit import gains
from thalweg.capability.sets import UnitSets, kept_of
from thalweg.capability.total import CUTS, DRAWS, STATED, Scores, total_capability
from thalweg.networks.language import BagOfWords
from thalweg.stimuli.tensors import TensorStimuli
from thalweg.stimuli.windows import Vocabulary, Windows
from thalweg.strength import language
from thalweg.strength.axes import entropy, evaluate

CLASSES, LATENTS, NOISE, COUNT = 4, 12, 12, 160
UNITS = torch.arange(LATENTS + NOISE)
NUMBERS = Modality(
    "numbers", low_level=lambda stimuli: stimuli.values.mean(1, keepdim=True), show=lambda *_: Shown("numbers")
)


def stimuli(count: int = COUNT) -> TensorStimuli:
    """Each class shows in three of twelve latents; twelve more numbers are noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    latents = (labels[:, None] == torch.arange(LATENTS) % CLASSES) * 1.0
    noise = torch.rand(count, NOISE, generator=generator)
    shown = latents * (0.5 + torch.rand(count, LATENTS, generator=generator)) + 0.3 * noise
    return TensorStimuli(torch.cat([shown, noise], 1), labels, tuple("abcd"), NUMBERS)


def planted() -> nn.Module:
    """A hidden unit for each number; the latents say their class, the noise says nothing."""
    network = nn.Sequential(nn.Linear(len(UNITS), len(UNITS)), nn.ReLU(), nn.Linear(len(UNITS), CLASSES))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(len(UNITS)))
        network[0].bias.zero_()
        network[2].weight.zero_()
        network[2].weight[torch.arange(LATENTS) % CLASSES, torch.arange(LATENTS)] = 3.0
        network[2].bias.zero_()
    return network


@pytest.fixture(scope="module")
def model() -> MaskedModel:
    pool = stimuli()
    layers = (Layer("0", nonlinearity=torch.relu),)
    return masked_model(planted(), layers, pool, pool, at_once=100, seed=0, device="cpu")


def named() -> Scores:
    """The latents score high and the noise low."""
    return Scores([torch.linspace(1, 0.5, len(UNITS))], [UNITS], reliability=0.64)


def test_nothing_replaced_leaves_all_bits_and_everything_replaced_none(model: MaskedModel):
    sets = UnitSets(named().values, [UNITS], [len(UNITS)], 0)
    for by in ("mean", "resample"):
        whole, nothing = model.answers.bits(model.gains(torch.cat([sets.all(), sets.nothing()]), by)).tolist()
        assert whole > 1.7, by  # of nearly two
        assert abs(nothing) < 0.1, by
    assert model.answers.achievable == pytest.approx(entropy(model.stimuli.labels))
    raw = evaluate(planted(), model.stimuli)["bits"]
    assert raw - 0.05 < whole < model.answers.achievable  # its confidence set right costs it nothing


def test_units_that_alone_carry_the_label_have_a_large_excess_and_the_others_none(model: MaskedModel):
    rows = {(row["ablation"], row["cut"]): row for row in total_capability(model, named(), draws=40)}
    assert list(rows) == [(by, cut) for by in ("mean", "resample") for cut in CUTS]
    half = rows["mean", 0.5]
    assert half["n_kept"] == LATENTS
    assert half["fraction"] == pytest.approx(1, abs=1e-6)  # the noise is connected to nothing
    assert half["complement"] == pytest.approx(0, abs=1e-6)
    for by in ("mean", "resample"):
        row = rows[by, STATED]
        assert row["excess"] > 0.2, by
        assert row["excess_low"] > 0, by
        assert row["p"] < 0.05, by
        assert row["random_low"] <= row["random"] <= row["random_high"] < row["tic"], by
        assert row["by_loss"] > row["random_high"], by
    assert rows["mean", STATED]["p_matched"] > 0.02  # variance alone tells the latents here
    assert (rows["mean", STATED]["n_sets"], rows["mean", STATED]["n_matched"]) == (40, 40)
    spread = (row["random_high"] - row["random_low"]) / 4  # two standard deviations on either side
    assert row["least_excess"] == pytest.approx(2.49 * spread / math.sqrt(0.64), rel=0.5)


def test_random_scores_have_no_excess(model: MaskedModel):
    """The best by a random score are a random set, so p is uniform: a twentieth lie below .05."""
    generator = torch.Generator().manual_seed(1)
    scored = [torch.rand(len(UNITS), generator=generator) for _ in range(100)]
    best = torch.cat([UnitSets([score], [UNITS], [len(UNITS)], 0).best(STATED) for score in scored])
    random = UnitSets([scored[0]], [UNITS], [len(UNITS)], 5).random(STATED, DRAWS)
    fewer = model.on(torch.arange(0, COUNT, 2)[1:])  # halves of unequal size
    bits = fewer.answers.bits(fewer.gains(torch.cat([best, random])))
    mine, others = bits[:100], bits[100:]
    p = (1 + (others[None] >= mine[:, None]).sum(1)) / (1 + DRAWS)
    assert 0.4 < p.mean() < 0.6
    assert 0.01 <= (p < 0.05).double().mean() <= 0.11
    assert abs(mine.mean() - others.mean()) < 4 * others.std() / 10


def test_the_loss_finds_the_units_that_matter(model: MaskedModel):
    sets = UnitSets(named().values, [UNITS], [len(UNITS)], 0)
    left = by_elimination(model, sets, model.folds[0])
    assert tuple(left) == SHARES
    assert set(CUTS) <= set(SHARES)
    assert left[0.5][0, :LATENTS].all()
    assert [int(each.sum()) for each in left.values()] == [kept_of(len(UNITS), share) for share in SHARES]


def test_sets_hold_as_many_units_of_each_layer_and_leave_alone_what_was_not_measured():
    scores = [torch.tensor([0.9, math.nan, 0.7, 0.8]), torch.tensor([0.1, 0.3, 0.2, 0.4, math.nan, 0.5, 0.6, 0.0])]
    measured = [torch.tensor([0, 2, 3, 5]), torch.arange(8)]
    sets = UnitSets(scores, measured, [6, 8], 0)
    outside = torch.tensor([1, 4])
    for chosen, kept in ((sets.random(0.5, 30), (2, 4)), (sets.best(0.5), (2, 4)), (sets.best(0.1), (1, 1))):
        assert chosen[:, outside].all()
        assert (chosen[:, :6].sum(1) == kept[0] + 2).all()
        assert (chosen[:, 6:].sum(1) == kept[1]).all()
    assert sets.best(0.5)[0].nonzero().flatten().tolist() == [0, 1, 4, 5, 6 + 1, 6 + 3, 6 + 5, 6 + 6]
    assert sets.best(0.75)[0, 2] == 0  # a unit without a score is worst
    assert (sets.others(0.5) & sets.best(0.5)).sum() == len(outside)
    variances = [torch.tensor([1.0, 9.0, 2.0, 3.0]), torch.arange(8.0)]
    alike = sets.matched(0.5, 50, variances)
    best = sets.best(0.5)[0]
    for stratum in torch.arange(8).tensor_split(2):  # fifths, but of four units at least
        assert (alike[:, 6:][:, stratum].sum(1) == best[6:][stratum].sum()).all()
    assert len(alike.unique(dim=0)) > 5


def test_sets_weighed_together_are_those_weighed_alone(model: MaskedModel):
    sets = UnitSets(named().values, [UNITS], [len(UNITS)], 0).random(0.5, 5)
    for by in ("mean", "resample"):
        together = model.gains(sets, by)
        alone = torch.cat([model.gains(each[None], by) for each in sets])
        assert torch.allclose(together, alone, atol=1e-3), by


def test_the_size_of_batches_changes_nothing(model: MaskedModel):
    """With one stimulus left for the last batch, or one in each, it still takes its values from another one."""
    few, nothing = model.on(torch.arange(20)), UnitSets(named().values, [UNITS], [len(UNITS)], 0).nothing()
    for by in ("mean", "resample"):
        expected = few.gains(nothing, by)
        for at_once in (19, 1):
            assert torch.allclose(replace(few, at_once=at_once).gains(nothing, by), expected, atol=1e-4), (by, at_once)


def test_a_unit_is_replaced_by_what_gives_its_mean_output(model: MaskedModel):
    values = stimuli().values
    assert torch.allclose(model.moments[0].fill, values.mean(0), atol=1e-5)
    gelu = masked_model(
        planted(),
        (Layer("0", nonlinearity=nn.functional.gelu),),
        stimuli(),
        stimuli(),
        at_once=50,
        seed=0,
        device="cpu",
    )
    passed_on = nn.functional.gelu(values)
    assert torch.allclose(nn.functional.gelu(gelu.moments[0].fill), passed_on.mean(0), atol=1e-5)
    assert torch.allclose(gelu.moments[0].variance.float(), passed_on.var(0, correction=0), atol=1e-5)


@pytest.mark.parametrize("size", [0.01, 1.0, 300.0])
def test_bits_do_not_depend_on_the_size_of_the_logits_nor_on_a_bias(size: float):
    """What differs between a network and itself with units replaced is information, not how confident it is."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(3, (400,), generator=generator)
    logits = 2 * nn.functional.one_hot(labels, 3) + torch.randn(400, 3, generator=generator)
    answers = answers_to(*[TensorStimuli(torch.zeros(400, 1), labels, tuple("abc"), NUMBERS)] * 2)
    folds = torch.arange(200), torch.arange(200, 400)
    changed = size * (logits + torch.tensor([0.0, 1.0, -1.0]))
    plain, other = (float(answers.bits(gains(each[None], answers, folds))[0]) for each in (logits, changed))
    assert other == pytest.approx(plain, abs=0.01)
    assert plain > answers.achievable - nn.functional.cross_entropy(1.5 * logits, labels) / math.log(2) - 0.1
    against = -logits
    assert float(answers.bits(gains(against[None], answers, folds))[0]) == pytest.approx(0, abs=0.01)


def words(count: int = 40) -> Windows:
    """Texts in which a token is mostly followed by the next one of 300."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(300, (count, 1), generator=generator)
    tokens = (start + torch.arange(13) + (torch.rand(count, 13, generator=generator) < 0.2)) % 300
    counts = tokens.flatten().bincount(minlength=300)
    vocabulary = Vocabulary(tuple(f"w{n} ".encode() for n in range(300)), counts, torch.ones(1, 300))
    zeros = torch.zeros(count, dtype=torch.long)
    return Windows(tokens[:, :-1], tokens[:, -1], torch.arange(count) // 2, zeros, ("text",), vocabulary)


def test_words_are_weighed_in_bits_per_byte_above_the_unigram_model():
    texts = words()
    answers = answers_to(texts, texts)
    torch.manual_seed(0)
    network = BagOfWords(300, 8)
    expected = language.evaluate(network, texts)
    nats = -torch.log_softmax(network(texts.batch(slice(None))).detach(), -1)
    said = nats.gather(-1, texts.targets(slice(None))[..., None])[..., 0].sum(1)
    assert float(answers.bits(answers.guessing - said)) == pytest.approx(expected["bits"], abs=1e-5)
    assert answers.achievable == pytest.approx(expected["bits"] + expected["bits_per_byte"], abs=1e-6)
    successor = 5 * nn.functional.one_hot((texts.batch(slice(None)) + 1) % 300, 300).float()
    folds = torch.arange(20), torch.arange(20, 40)
    knows, nothing = answers.bits(gains(torch.stack([successor, torch.zeros_like(successor)]), answers, folds)).tolist()
    assert knows > 0.5 * answers.achievable
    assert abs(nothing) < 0.05


def test_what_cannot_be_weighed_says_why():
    pool = stimuli()
    alike = TensorStimuli(pool.values, torch.zeros(COUNT, dtype=torch.long), tuple("abcd"), NUMBERS)
    with pytest.raises(Missing, match="one class"):
        answers_to(alike, alike)
    layers = (Layer("0", nonlinearity=torch.relu),)
    with pytest.raises(Missing, match="no logits for the classes"):
        masked_model(planted()[:2], layers, pool, pool, at_once=50, seed=0, device="cpu")


def tokens_beyond(answers: Answers, width: int) -> Tensor:
    return answers.for_logits(torch.zeros(*answers.targets.shape, width)).log_prior


def test_models_may_know_more_tokens_than_occur_or_fewer():
    answers = answers_to(words(), words())
    assert len(tokens_beyond(answers, 310)) == 310
    assert len(tokens_beyond(answers, 300)) == 300
    with pytest.raises(Missing):
        tokens_beyond(answers, 20)
