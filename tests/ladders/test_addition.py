"""The ladder of addition: its stimuli, its models, their training, and the measures of how they add."""

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from thalweg import Source, Splits, ThalwegError
from thalweg.capability.masked import masked_model
from thalweg.ladders import addition
from thalweg.ladders.addition import fourier, strength, training
from thalweg.ladders.addition import pairs as ladders_addition_pairs
from thalweg.ladders.addition.networks import Linear, Perceptron, Transformer
from thalweg.ladders.addition.pairs import all_pairs
from thalweg.ladders.addition.strength import over_all_pairs
from thalweg.ladders.addition.training import FullBatch
from thalweg.measures.two_choice import two_choice
from thalweg.models.hooks import capture_activations
from thalweg.models.records import Layer
from thalweg.observers.answers import answer, answer_by_features
from thalweg.observers.base import OBSERVERS, extract_features
from thalweg.observers.embedding import centred, standardised
from thalweg.recording.record import record
from thalweg.stimuli.base import halves
from thalweg.trials.building import build_trials

P = 31


def planted(keys: dict[int, float], p: int = P) -> tuple[Tensor, Tensor]:
    """Neurons and logits of a network that adds by cos(w_k (a + b - c)), with these amplitudes by frequency."""
    a, b, c = torch.arange(p)[:, None, None], torch.arange(p)[None, :, None], torch.arange(p)
    logits = sum(size * (2 * math.pi * k / p * (a + b - c)).cos() for k, size in keys.items())
    phases = torch.arange(8) * math.pi / 4
    units = [(w * a + phases).cos() * (w * b + phases / 2).cos() for w in (2 * math.pi * k / p for k in keys)]
    return torch.cat([unit.expand(p, p, 8) for unit in units], 2), torch.as_tensor(logits)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("p", [3, 17, 53])
def test_the_fourier_basis_is_orthonormal_and_names_its_waves(p: int):
    result = fourier.basis(p)
    assert torch.allclose(result @ result.T, torch.eye(p, dtype=torch.float64))
    wave = (2 * math.pi / p * torch.arange(p, dtype=torch.float64)).sin()
    assert (result @ wave).abs().argmax() == 2  # 1, cos_1, sin_1


def test_a_unit_of_one_frequency_has_all_its_variance_there():
    values, _ = planted({3: 1.0, 7: 1.0})
    shares = fourier.frequency_shares(values + 100)  # a constant is no variance
    assert (shares.argmax(1) + 1).tolist() == [3] * 8 + [7] * 8
    assert torch.allclose(shares.amax(1), torch.ones(16, dtype=torch.float64))


def test_shares_of_a_frequency_are_those_of_a_regression():
    values = noise(P, P, 2)
    a, b = all_pairs(P).double().T * 2 * math.pi * 5 / P
    item = torch.ones_like(a)
    columns = [x * y for x in (item, a.cos(), a.sin()) for y in (item, b.cos(), b.sin())]
    flat = values.flatten(0, 1).double()
    design = torch.stack(columns, 1)
    left = flat - design @ torch.linalg.lstsq(design, flat).solution
    explained = 1 - left.square().sum(0) / (flat - flat.mean(0)).square().sum(0)
    assert torch.allclose(fourier.frequency_shares(values)[:, 4], explained)


def test_a_planted_circuit_is_found():
    values, logits = planted({3: 12.0, 7: 12.0, 11: 12.0})
    logits = logits + 0.1 * noise(P, P, P)
    keys = fourier.key_frequencies(values, logits)
    assert keys == [3, 7, 11]
    assert fourier.neurons_at_one_frequency(values) == 1
    assert float(fourier.logit_shares(logits).sum()) > 0.99
    flat, sums = logits.flatten(0, 1).double(), all_pairs(P).sum(1) % P
    loss = float(nn.functional.cross_entropy(flat, sums))
    assert fourier.restricted_loss(logits, keys) == pytest.approx(loss, rel=0.2)
    assert loss < 0.01
    assert fourier.restricted_loss(logits, keys[:2]) > 3 * loss
    assert fourier.excluded_loss(logits, keys, all_pairs(P)) == pytest.approx(math.log(P), rel=0.05)


def test_what_is_known_by_heart_is_no_circuit():
    train = all_pairs(P)[torch.randperm(P * P, generator=torch.Generator().manual_seed(1))[:300]]
    logits = noise(P, P, P)
    logits[train[:, 0], train[:, 1], train.sum(1) % P] += 20
    values = noise(P, P, 40)
    keys = [3, 7]  # every pair known by heart adds a little to every wave; a few waves hold next to nothing
    assert fourier.neurons_at_one_frequency(values) == 0
    assert fourier.excluded_loss(logits, keys, train) < 0.01
    assert fourier.restricted_loss(logits, keys) > 100 * fourier.excluded_loss(logits, keys, train)
    assert fourier.restricted_loss(logits, keys) > 0.7 * math.log(P)


def test_random_logits_have_no_key_frequency():
    values, _ = planted({3: 1.0})
    assert fourier.key_frequencies(values, noise(P, P, P)) == []
    assert fourier.restricted_loss(noise(P, P, P), []) == pytest.approx(math.log(P), rel=0.02)


@pytest.mark.parametrize(("lengths", "expected"), [([1.0, 1.0, 1.0, 1.0], 0), ([0.0, 5.0, 0.0, 0.0], 3 / 4)])
def test_gini_of_equal_and_of_single_lengths(lengths: list[float], expected: float):
    assert fourier.gini(torch.tensor(lengths)) == pytest.approx(expected)


def test_components_of_a_table_of_one_wave():
    table = fourier.basis(P)[[1, 1, 4]].T + 7
    norms = fourier.component_norms(table)
    assert torch.allclose(norms[[0, 3]], torch.tensor([math.sqrt(2), 1.0], dtype=torch.float64))
    assert norms.sum() == pytest.approx(math.sqrt(2) + 1)


def test_all_pairs_are_split_once_by_seed():
    item, again, other = (ladders_addition_pairs.splits(Source(), seed) for seed in (0, 0, 1))
    assert [len(part) for part in (item.train, item.validation, item.pool)] == [1124, 281, 1404]
    assert item.content_hash() == again.content_hash() != other.content_hash()
    everything = torch.cat([part.numbers for part in (item.train, item.validation, item.pool)])
    assert len(everything.unique(dim=0)) == 53 * 53
    assert torch.equal(item.pool.labels, item.pool.numbers.sum(1) % 53)
    shown = item.pool.take(torch.tensor([3])).show(0)
    a, b = item.pool.numbers[3].tolist()
    assert "".join(shown.pieces) == f"{a} + {b} mod 53"
    assert shown.label == str((a + b) % 53)


@pytest.mark.parametrize("p", [17, 19, 31])
def test_even_small_primes_leave_enough_for_trials(p: int):
    assert len(ladders_addition_pairs.splits(Source(), 0, p=p).pool) >= 120


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (15, "too small"),
        (1, "too small"),
        (-53, "too small"),
        (51, "51 is not prime; the nearest primes are 47 and 53"),
        (400, "the nearest primes are 397 and 401"),
        (10_007, "too large"),
        ("53", "'53': a whole number was expected"),
        (53.0, "53.0: a whole number was expected"),
        (True, "True: a whole number was expected"),
    ],
)
@pytest.mark.parametrize("make", [addition.ladder, addition.training_ladder])
def test_numbers_that_nothing_can_be_added_modulo(make, p, message: str):
    with pytest.raises(ThalwegError, match=message):
        make(p)


def test_a_file_is_no_source_of_pairs(tmp_path: Path):
    with pytest.raises(ThalwegError, match="takes no data"):
        ladders_addition_pairs.splits(Source(tmp_path / "pairs.txt"), 0)


def test_the_rungs_have_the_layers_they_name():
    pairs = ladders_addition_pairs.splits(Source(), 0).pool
    assert len(addition.LADDER.rungs) >= 8
    assert {rung.kind for rung in addition.LADDER.rungs} == {"linear", "fully connected", "transformer"}
    for rung in addition.LADDER.rungs:
        model = rung.build()
        with torch.no_grad(), capture_activations(model, rung.layers) as outputs:
            logits = model(pairs.batch(slice(0, 60)))
        assert logits.shape == (60, 53)
        assert all(outputs[layer.name].shape[0] == 60 for layer in rung.layers)


def test_the_published_setting_is_there_on_request():
    ladder = addition.ladder(113)
    assert ladder.name == "addition:113"
    assert len(ladder.splits(Source(), 0).train) == 3831  # 30 % of 12,769
    model, trainer = ladder.rungs[-1].build(), ladder.rungs[-1].train
    assert isinstance(model, Transformer)
    assert model.into_mlp.shape == (128, 512)
    assert trainer == FullBatch(1e-3, 1.0, 20_000)
    assert addition.training_ladder(113).name == "addition-training:113"


def plain(model: Transformer, pairs: Tensor) -> dict[str, Tensor]:
    """The same transformer, written for whole sequences with PyTorch's own attention."""
    p = len(model.tokens) - 1
    sequence = torch.cat([pairs, torch.full((len(pairs), 1), p)], 1)
    stream = model.tokens[sequence] + model.positions
    split = [
        (stream @ weight).unflatten(2, (4, -1)).transpose(1, 2)
        for weight in (model.to_query, model.to_key, model.to_value)
    ]
    heads = nn.functional.scaled_dot_product_attention(*split, is_causal=True).transpose(1, 2).flatten(2)
    stream = stream + heads @ model.from_heads
    neurons = stream @ model.into_mlp + model.mlp_bias
    stream = stream + neurons.relu() @ model.from_mlp + model.from_mlp_bias
    result = {"heads": heads, "mlp_in": neurons, "residual": stream, "logits": stream @ model.unembedding}
    return {name: values[:, -1] for name, values in result.items()}


@pytest.mark.parametrize("count", [5, 200])
def test_the_tables_give_what_a_whole_transformer_gives(count: int):
    torch.manual_seed(0)
    model = Transformer(53, 16, 64)
    pairs = all_pairs(53)[torch.randperm(53 * 53)[:count]]
    layers = [Layer("heads"), Layer("mlp_in"), Layer("residual")]
    with torch.no_grad(), capture_activations(model, layers) as outputs:
        result = {"logits": model(pairs), **outputs}
        for name, values in plain(model, pairs).items():
            assert torch.allclose(result[name], values, atol=1e-5), name


def test_strength_counts_from_guessing_and_ends_at_all_bits():
    pairs = ladders_addition_pairs.splits(Source(), 0).pool

    class Sure(nn.Module):
        def __init__(self, size: float, off: int) -> None:
            super().__init__()
            self.size, self.off = size, off

        def forward(self, numbers: Tensor) -> Tensor:
            return self.size * nn.functional.one_hot((numbers.sum(1) + self.off) % 53, 53).float()

    guessing, right, wrong = (
        strength.evaluate(Sure(*settings), pairs) for settings in ((0.0, 0), (50.0, 0), (50.0, 1))
    )
    assert guessing["bits"] == pytest.approx(0, abs=1e-9)
    assert right["bits"] == pytest.approx(math.log2(53))
    assert right["share"] == pytest.approx(1)
    assert right["accuracy"] == 1
    assert wrong["bits"] == pytest.approx(
        math.log2(53) - 50 / math.log(2), rel=1e-6
    )  # sure and wrong: reported as it is
    assert wrong["accuracy"] == 0


def test_logits_that_are_not_finite_are_refused():
    model = Linear(53)
    nn.init.constant_(model.bias, math.inf)
    with pytest.raises(ThalwegError, match="NaN or infinite logits"):
        strength.evaluate(model, ladders_addition_pairs.splits(Source(), 0).pool)
    with pytest.raises(ThalwegError, match="loss became NaN"):
        FullBatch(1e-3, 1.0, 10)(model, ladders_addition_pairs.splits(Source(), 0), 0)


def test_waves_are_read_by_fourier_and_not_by_numbers():
    pool = ladders_addition_pairs.splits(Source(), 0).pool

    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.units = nn.Identity()

        def forward(self, numbers: Tensor) -> Tensor:
            x, y = numbers.double().T * 2 * math.pi * 12 / 53
            return self.units(torch.stack([x.cos(), y.sin(), (x + y).cos(), (x - y).sin()], 1))

    reference, query = (
        record(Waves(), [Layer("units")], pool, ids)["units", "neurons"] for ids in halves(pool, seed=0)
    )
    trials = build_trials(reference, query)
    waves = standardised(extract_features(OBSERVERS["fourier"], pool)["features"])
    assert waves.shape == (len(pool), 4 * 52)
    assert torch.allclose(two_choice(answer_by_features(trials, waves, (1,))[1])["mean", ""].value, torch.ones(4))
    amounts = centred(extract_features(OBSERVERS["numbers"], pool)["features"])
    assert float(two_choice(answer(trials, amounts))["mean", ""].value[2:].mean()) < 0.65
    middle = int((pool.numbers - 26).abs().sum(1).argmin())
    apart = (pool.numbers - pool.numbers[middle]).square().sum(1).double()
    nearest = (amounts @ amounts[middle]).topk(30).indices
    assert float(apart[nearest].mean()) < 0.1 * float(apart.mean())
    assert not OBSERVERS["fourier"].whole
    assert OBSERVERS["numbers"].control


def test_nothing_is_drawn_in_training_and_a_short_one_is_told_as_such():
    splits = ladders_addition_pairs.splits(Source(), 0, p=17)
    trainer = FullBatch(3e-3, 1.0, 30)
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(Perceptron(17, 8))
        settings = trainer(models[-1], splits, len(models))
    assert all(torch.equal(x, y) for x, y in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert settings["stopped"] == "most epochs reached"
    assert settings["grokked"] == "no"
    assert "grokked_at" not in settings
    assert settings["epochs"] == 30
    assert settings["train_examples"] == 30 * len(splits.train)


def test_checkpoints_are_the_weights_that_as_many_epochs_give():
    splits = ladders_addition_pairs.splits(Source(), 0, p=17)
    trainer = FullBatch(3e-3, 1.0, 25)
    torch.manual_seed(3)
    start = Transformer(17, 8, 32)
    model, seen = copy.deepcopy(start), []
    for settings in training.train_checkpoints(model, splits, 0, (0, 10, 25), trainer=trainer):
        seen.append((settings, copy.deepcopy(model.state_dict())))
    assert [settings["epochs"] for settings, _ in seen] == [0, 10, 25]
    for epochs, (settings, weights) in zip((0, 10, 25), seen, strict=True):
        alone = copy.deepcopy(start)
        again = FullBatch(3e-3, 1.0, epochs)(alone, splits, 0)
        assert all(torch.equal(weights[name], value) for name, value in alone.state_dict().items())
        assert settings["train_loss"] == again["train_loss"]
        assert settings["key_frequencies"] == seen[-1][0]["key_frequencies"]  # those of the last weights


Grown = dict[str, tuple[Transformer, dict[str, float | int | str]]]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return ladders_addition_pairs.splits(Source(), 0)


@pytest.fixture(scope="module")
def networks(splits: Splits) -> Grown:
    """The transformer of width 64 as the ladder trains it, and its twins."""
    rung = next(rung for rung in addition.LADDER.rungs if rung.name == "transformer-64")
    trainers = {"trained": rung.train, **addition.LADDER.twins, "untrained": FullBatch(1e-3, 0.0, 0)}
    result = {}
    for name, trainer in trainers.items():
        torch.manual_seed(0)
        model = rung.build()
        result[name] = (model, dict(trainer(model, splits, 0)))
    return result


def test_the_network_that_grokked_computes_with_a_few_waves(networks: Grown):
    _, settings = networks["trained"]
    assert settings["grokked"] == "yes"
    assert settings["epochs"] == settings["grokked_at"] + 500
    assert 3 <= len(settings["key_frequencies"].split()) <= 7
    assert settings["neurons_at_one_frequency"] > 0.5
    assert settings["logit_variance_explained"] > 0.9
    assert settings["excluded_loss"] > 3
    assert settings["restricted_loss"] < 0.01
    assert settings["embedding_gini"] > networks["untrained"][1]["embedding_gini"] + 0.3


def test_its_memorising_twin_knows_its_pairs_and_no_others(networks: Grown):
    _, settings = networks["memorising"]
    assert settings["stopped"] == "every training pair is known by heart"
    assert settings["train_accuracy"] == 1
    assert settings["validation_accuracy"] < 0.4
    assert settings["grokked"] == "no"
    assert settings["neurons_at_one_frequency"] == 0


def test_fourier_reads_the_neurons_of_the_one_that_grokked(networks: Grown, splits: Splits):
    pool = splits.pool
    waves = standardised(extract_features(OBSERVERS["fourier"], pool)["features"])
    scores = {}
    for name, (model, _) in networks.items():
        sides = [record(model, [Layer("mlp_in")], pool, ids)["mlp_in", "neurons"] for ids in halves(pool, seed=0)]
        answers = answer_by_features(build_trials(*sides), waves, (1,))[1]
        scores[name] = float(two_choice(answers)["mean", ""].value.nanmean())
    assert scores["trained"] > 0.9
    assert scores["untrained"] < 0.8
    assert scores["memorising"] - scores["untrained"] < 0.4 * (scores["trained"] - scores["untrained"])


def test_the_units_at_key_frequencies_carry_what_the_one_that_grokked_can_do(networks: Grown, splits: Splits):
    """And nearly nothing of what the memorising twin can, whose units are of no frequency."""
    carried = {}
    for name in ("trained", "memorising"):
        network, settings = networks[name]
        known = splits.pool if name == "trained" else splits.train
        stimuli = known.take(torch.linspace(0, len(known) - 1, 200).long())
        model = masked_model(
            network, (Layer("mlp_in", nonlinearity=torch.relu),), stimuli, known, at_once=200, seed=0, device="cpu"
        )
        shares = fourier.frequency_shares(over_all_pairs(network, known.p)[0]).nan_to_num(0)
        keys = [int(key) - 1 for key in settings["key_frequencies"].split()]
        follows = shares[:, keys].amax(1) > fourier.MOST if keys else torch.zeros(len(shares), dtype=torch.bool)
        sets = torch.stack([torch.ones_like(follows), torch.zeros_like(follows), follows, ~follows])
        whole, nothing, by_keys, others = model.answers.bits(model.gains(sets)).tolist()
        carried[name] = (by_keys - nothing) / (whole - nothing), (others - nothing) / (whole - nothing), whole
    assert carried["trained"][0] > 0.9
    assert carried["trained"][1] < 0.5
    assert carried["memorising"][0] < 0.1
    assert carried["memorising"][2] > 4  # it knows its pairs


def test_strength_rises_from_the_linear_model_to_the_transformer(networks: Grown, splits: Splits):
    rungs = {rung.name: rung for rung in addition.LADDER.rungs}
    bits = []
    for name in ("linear", "mlp-64"):
        torch.manual_seed(0)
        model = rungs[name].build()
        rungs[name].train(model, splits, 0)
        bits.append(strength.evaluate(model, splits.pool)["bits"])
    bits.append(strength.evaluate(networks["trained"][0], splits.pool)["bits"])
    assert all(more > less + 0.5 for less, more in itertools.pairwise(bits))
    assert -0.5 < bits[0] < 0.1
    assert bits[-1] > 5.6
