"""The streaming pass against brute force: any values, any batches, any shards, any order."""

import copy
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from thalweg import Images, Layer, ThalwegError
from thalweg.compute.devices import channels_last
from thalweg.models.hooks import capture_activations
from thalweg.models.pooling import pooled
from thalweg.observers.embedding import indicators
from thalweg.recording.keys import EMPTY, Scramble, pack, unpack
from thalweg.recording.readout import Reader, _shared, random_directions, rotation
from thalweg.recording.record import record
from thalweg.recording.recorder import Recorder
from thalweg.recording.result import Recording, from_tensors, merge, to_tensors
from thalweg.recording.sample import BLOCK, cut_at
from thalweg.recording.settings import RecordingSettings
from thalweg.recording.statistics import Indicators
from thalweg.scoring.units import StimulusMetadata

ODD = [0.0, -0.0, 1.0, -1.0, 1e-38, 3.4e38, float("inf"), -float("inf"), float("nan"), 2.0, 2.0, -7.25]


WAYS = st.sampled_from(["searched", "sorted"])


@st.composite
def tables(draw: st.DrawFn) -> Tensor:
    """Values of some stimuli for some units: many ties, constants, NaN and infinities."""
    stimuli, units = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    values = torch.randint(-4, 5, (stimuli, units), generator=generator).float()
    values += torch.randn(stimuli, units, generator=generator) * draw(st.sampled_from([0.0, 1.0]))
    for _ in range(draw(st.integers(0, 8))):
        values[draw(st.integers(0, stimuli - 1)), draw(st.integers(0, units - 1))] = draw(st.sampled_from(ODD))
    if draw(st.booleans()):
        values[:, 0] = 3.0
    return values


def sorting(way: str) -> AbstractContextManager[object]:
    """Blocks are searched, as on a CPU, or sorted whole, as on an accelerator."""
    patches = ExitStack()
    for module in ("recorder", "record"):
        patches.enter_context(patch(f"thalweg.recording.{module}.sorts_blocks", lambda _device: way == "sorted"))
    return patches


def recorded(
    values: Tensor, ids: Tensor, *, batch: int, seed: int = 0, block: int = 1, way: str = "searched"
) -> Recording:
    """A recording made batch by batch, each overwritten when it has been offered."""
    statistic = torch.arange(200.0)[:, None].cos()
    recorder = Recorder(k=4, sample=7, scramble=Scramble.seeded(seed), statistics={"trivial": statistic})
    with (
        patch("thalweg.recording.recorder.BLOCK", block),
        patch("thalweg.recording.recorder.SORTED_BLOCK", 60 * block),
        patch("thalweg.recording.extremes.SORTED_KEYS", 60 * block),
        patch("thalweg.recording.sample.BLOCK", block),
        sorting(way),
    ):
        for rows in torch.arange(len(ids)).split(batch):
            offered = values[ids[rows]]
            recorder.update(offered, ids[rows])
            offered.fill_(9e9)
    return recorder.compute()


def brute(values: Tensor, k: int, scramble: Scramble) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of the k highest and lowest stimuli of each unit, sorted one by one; ties by the larger scrambled id."""
    order = scramble(torch.arange(len(values))).tolist()
    highest, lowest = [], []
    for unit in values.T.tolist():
        finite = [i for i, value in enumerate(unit) if abs(value) < float("inf")]
        highest.append(sorted(finite, key=lambda i, u=unit: (u[i], order[i]), reverse=True)[:k])
        lowest.append(sorted(finite, key=lambda i, u=unit: (-u[i], order[i]), reverse=True)[:k])
    return highest, lowest


def kept(ids: Tensor) -> list[list[int]]:
    return [[i for i in row if i >= 0] for row in ids.tolist()]


def same(first: Recording, other: Recording) -> None:
    for name, tensor in to_tensors(first).items():
        again = to_tensors(other)[name]
        if tensor.dtype == torch.float64:  # sums depend on the batches by a float32's rounding
            scale = max(1.0, float(tensor.abs().max()))
            torch.testing.assert_close(tensor / scale, again / scale, rtol=0, atol=1e-5)
        else:
            assert torch.equal(tensor.nan_to_num(nan=9e9), again.nan_to_num(nan=9e9)), name


@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(1, 70), st.sampled_from([1, BLOCK]), st.integers(0, 2**31), WAYS)
def test_extremes_moments_and_sample_match_brute_force(values: Tensor, batch: int, block: int, seed: int, way: str):
    ids = torch.arange(len(values))
    recording = recorded(values, ids, batch=batch, seed=seed, block=block, way=way)
    highest, lowest = brute(values, 4, Scramble.seeded(seed))
    assert kept(recording.highest()[1]) == highest
    assert kept(recording.lowest()[1]) == lowest
    for unit, row in enumerate(highest):
        assert recording.highest()[0][unit, : len(row)].tolist() == values[row, unit].tolist()
    finite = values.isfinite()
    assert recording.nonfinite.tolist() == (~finite).sum(0).tolist()
    assert recording.count.tolist() == finite.sum(0).tolist()
    clean = values.where(finite, 0).double()
    scale = max(1.0, float(clean.abs().max()))
    torch.testing.assert_close(recording.mean, clean.sum(0) / finite.sum(0).clamp_min(1), rtol=1e-5, atol=1e-6 * scale)
    centred = (clean - recording.mean).where(finite, 0)
    torch.testing.assert_close(
        recording.deviations / scale**2, centred.square().sum(0) / scale**2, rtol=1e-5, atol=1e-6
    )
    expected = clean.T @ torch.arange(200.0).cos()[: len(ids)].double()
    torch.testing.assert_close(recording.products["trivial"][0] / scale, expected / scale, rtol=0, atol=1e-5)
    order = Scramble.seeded(seed)(ids)
    assert recording.sample_ids().tolist() == order.argsort()[:7].tolist()
    assert torch.equal(recording.sample.nan_to_num(nan=9e9), values[recording.sample_ids()].nan_to_num(nan=9e9))


@settings(max_examples=100, deadline=None)
@given(tables(), st.integers(1, 20), st.lists(st.integers(0, 2), min_size=60, max_size=60), st.permutations([0, 1, 2]))
def test_shards_merge_into_the_whole_in_any_order(values: Tensor, batch: int, owner: list[int], order: list[int]):
    owners = torch.tensor(owner[: len(values)])
    shards = [torch.nonzero(owners == item).flatten() for item in order]
    shards = [shard[torch.randperm(len(shard))] for shard in shards if len(shard)]
    parts = [recorded(values, shard, batch=batch) for shard in shards]
    whole = recorded(values, torch.arange(len(values)), batch=17)
    left = parts[0]
    for part in parts[1:]:
        left = merge(left, part)
    right = parts[-1]
    for part in reversed(parts[:-1]):
        right = merge(part, right)
    same(left, whole)
    same(right, whole)


@pytest.mark.parametrize(
    ("batch", "share", "way"),
    [(100, 1.0, "searched"), (250, 0.3, "searched"), (3000, 1.0, "searched"), (250, 0.3, "sorted")],
)
def test_extremes_of_many_batches_match_a_sort(batch: int, share: float, way: str, generator):
    values = torch.randn(3000, 150, generator=generator).mul(1 + torch.arange(150.0)).clamp_min(-200)
    values[:, 0] = values[:, 0] > 0  # ties on both sides, on one, and nothing but ties
    values[:, 1].clamp_(min=0)
    values[:, 2] = -1.5
    values[torch.rand(3000, generator=generator) > share, 3] = torch.nan
    recorder = Recorder(k=20, sample=100, scramble=Scramble.seeded(5), statistics={})
    with sorting(way):
        for rows in torch.randperm(3000, generator=generator).split(batch):
            recorder.update(values[rows], rows)
    recording, order = recorder.compute(), Scramble.seeded(5)(torch.arange(3000))
    for ids, signed in ((recording.highest()[1], values), (recording.lowest()[1], -values)):
        keys = pack(signed, order[:, None].expand_as(signed)).where(signed.isfinite(), EMPTY)
        assert torch.equal(ids, keys.topk(20, 0).indices.T)
    assert torch.equal(recording.sample_ids(), order.argsort()[:100])
    assert torch.equal(recording.count, values.isfinite().sum(0))
    torch.testing.assert_close(recording.mean, values.double().nanmean(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("firing", [0.02, 0.9])
def test_extremes_of_units_that_mostly_tie_match_a_sort(firing: float, generator):
    values = torch.randn(4000, 90, generator=generator).abs() * (torch.rand(4000, 90, generator=generator) < firing)
    values[:, 45:] = torch.randn(4000, 45, generator=generator)
    recorder = Recorder(k=10, sample=100, scramble=Scramble.seeded(5), statistics={})
    for rows in torch.arange(4000).split(80):
        recorder.update(values[rows], rows)
    recording, order = recorder.compute(), Scramble.seeded(5)(torch.arange(4000))
    for ids, signed in ((recording.highest()[1], values), (recording.lowest()[1], -values)):
        assert torch.equal(ids, pack(signed, order[:, None]).topk(10, 0).indices.T)


def test_merging_different_settings_is_refused():
    values = torch.randn(10, 2)
    with pytest.raises(ValueError, match="same seed"):
        merge(recorded(values, torch.arange(5), batch=5), recorded(values, torch.arange(5, 10), batch=5, seed=1))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_keys_order_as_values_do_and_unpack_to_them(numbers: list[float]):
    values = torch.tensor(numbers, dtype=torch.float32)
    keys = pack(values, torch.zeros(len(values), dtype=torch.int64))
    assert (keys > EMPTY).all()
    assert torch.equal(keys[:, None] < keys[None], values[:, None] < values[None])
    assert torch.equal(unpack(keys)[0], values)


@given(st.integers(0, 2**31), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50, unique=True))
def test_scrambling_can_be_inverted(seed: int, numbers: list[int]):
    ids = torch.tensor(numbers)
    scramble = Scramble.seeded(seed)
    assert len(scramble(ids).unique()) == len(ids)
    assert torch.equal(scramble.invert(scramble(ids)), ids)


def test_ties_are_broken_by_the_seed_not_by_the_order():
    values = torch.zeros(100, 1)
    first = [recorded(values, torch.arange(100), batch=10, seed=seed).highest()[1][0].tolist() for seed in (0, 1)]
    backwards = recorded(values, torch.arange(99, -1, -1), batch=10, seed=0).highest()[1][0].tolist()
    assert first[0] != first[1]
    assert first[0] == backwards
    assert max(first[0]) > 10  # not simply the first ones


def test_recording_survives_its_file_format():
    recording = recorded(torch.randn(30, 3), torch.arange(30), batch=8)
    same(from_tensors(to_tensors(recording)), recording)


def test_variance_is_exact_far_from_zero():
    values = 1e6 + torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    recording = recorded(values, torch.arange(200), batch=50)
    torch.testing.assert_close(recording.variance(), values[:200].double().var(0, correction=0), rtol=1e-4, atol=0)
    assert recorded(torch.full((50, 1), 0.1), torch.arange(50), batch=7).variance().item() == 0


def images(count: int) -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(
        torch.randint(0, 256, (count, 1, 6, 6), generator=generator, dtype=torch.uint8),
        torch.zeros(count, dtype=torch.int64),
        ("one",),
    )


def test_a_model_is_recorded_at_every_layer_in_one_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    stimuli = images(50)
    layers = [Layer("0", "max", torch.relu), Layer("3")]
    result = record(
        model,
        layers,
        stimuli,
        torch.arange(50),
        RecordingSettings(k=5, sample=50, bases=("neurons", "random"), batch_size=20),
    )
    assert len(calls) == 3
    with torch.no_grad():
        maps = model[0](stimuli.batch(slice(None)))
        expected = {("0", "neurons"): maps.amax((2, 3)), ("3", "neurons"): model(stimuli.batch(slice(None)))}
        turned = torch.einsum("bchw,cd->bdhw", maps.relu(), rotation(3, seed=7919))
        expected["0", "random"] = turned.amax((2, 3))
    for key, values in expected.items():
        recording = result[key]
        torch.testing.assert_close(recording.sample, values[recording.sample_ids()], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_that_are_sorted_together_are_recorded_as_each_by_itself(precision: str):
    """As on an accelerator: all layers and bases in one block of many batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 5))
    layers = [Layer("0", "max", torch.relu), Layer("3"), Layer("3:in", max_units=4)]
    given_settings = {"k": 5, "sample": 30, "bases": ("neurons", "random"), "batch_size": 20, "precision": precision}
    statistics = {"label": Indicators(torch.arange(90) % 3, 3), "trivial": torch.randn(90, 2)}
    results = []
    for way in ("searched", "sorted"):
        with sorting(way), patch("thalweg.recording.recorder.SORTED_ROWS", 50):
            settings = RecordingSettings(**given_settings)
            results.append(record(model, layers, images(90), torch.arange(90), settings, statistics=statistics))
    for name, recording in results[0].items():
        same(results[1][name], recording)
        assert all(tensor.is_contiguous() for tensor in to_tensors(results[1][name]).values())
    assert len(results[1]) == 6


class NoNumberComesBack(TorchDispatchMode):
    """Fails at what makes the host wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "unique", "is_nonzero")
        assert not any(word in func.name() for word in waits), func.name()
        return func(*args, **(kwargs or {}))


def test_blocks_that_are_sorted_wait_for_nothing(generator):
    values = torch.randn(200, 7, generator=generator)
    values[3, 2] = torch.nan
    statistics = {"trivial": torch.randn(200, 2, generator=generator)}
    recorder = Recorder(k=4, sample=60, scramble=Scramble.seeded(1), statistics=statistics)
    order = Scramble.seeded(1)(torch.arange(200))
    entering = order.argsort()[:60].sort().values
    with sorting("sorted"), patch("thalweg.recording.recorder.SORTED_ROWS", 50), NoNumberComesBack():
        recorder.start(7, torch.device("cpu"), rows=20, sample=60)
        for rows, positions in zip(torch.arange(200).split(20), cut_at(entering, 200, 20), strict=True):
            recorder.make_way(20)
            recorder.place(values[rows], slice(None))
            recorder.add(rows, order[rows], (positions, order[rows][positions]))
    assert torch.equal(recorder.compute().sample_ids(), order.argsort()[:60])
    assert recorder.compute().nonfinite.tolist() == [0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("last", "times"), [("1", 1), ("2", 1), ("3", 3), ("2:in", 1)])
def test_a_pass_ends_with_the_last_layer_that_is_measured(last, times):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(inplace=True), nn.Linear(5, 4))
    ran = []
    model[3].register_forward_pre_hook(lambda *_: ran.append(1))
    layers = [Layer(name) for name in {"1", last}]
    result = record(model, layers, images(30), torch.arange(30), RecordingSettings(k=5, batch_size=10))
    assert len(ran) == times  # the first pass goes through the whole model
    with torch.no_grad():
        values = model[1](images(30).batch(slice(None)).flatten(1))
    recording = result["1", "neurons"]
    torch.testing.assert_close(recording.sample, values[recording.sample_ids()])


def test_a_model_spread_over_devices_runs_to_its_end():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Linear(5, 4))
    model.hf_device_map = {"": "cpu"}
    ran = []
    model[2].register_forward_hook(lambda *_: ran.append(1))
    record(model, [Layer("1")], images(30), torch.arange(30), RecordingSettings(k=5, batch_size=10))
    assert len(ran) == 3


def test_an_activation_in_place_does_not_alter_the_layer_before_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.ReLU(inplace=True))
    stimuli = images(30)
    result = record(model, [Layer("1")], stimuli, torch.arange(30), RecordingSettings(k=5, sample=30))["1", "neurons"]
    with torch.no_grad():
        values = model[1](stimuli.batch(slice(None)).flatten(1))
    torch.testing.assert_close(result.sample, values[result.sample_ids()])
    assert (result.sample < 0).any()


def test_rotation_is_orthogonal_and_fixed():
    turned = rotation(40, seed=3)
    torch.testing.assert_close(turned @ turned.T, torch.eye(40), rtol=0, atol=1e-5)
    assert torch.equal(turned, rotation(40, seed=3))
    assert not torch.equal(turned, rotation(40, seed=4))


def test_directions_are_orthonormal_and_each_is_uniform():
    turned = random_directions(300, 40, seed=3)
    torch.testing.assert_close(turned.T @ turned, torch.eye(40), rtol=0, atol=1e-5)
    assert torch.equal(turned, random_directions(300, 40, seed=3))
    assert not torch.equal(turned, random_directions(300, 40, seed=4))
    drawn = torch.stack([random_directions(6, 3, seed=seed) for seed in range(600)])
    assert drawn.mean(0).abs().max() < 4 / (600 * 6) ** 0.5  # no sign is favoured
    products = torch.einsum("sud,svd->duv", drawn, drawn) / 600
    torch.testing.assert_close(products, torch.eye(6).expand(3, 6, 6) / 6, rtol=0, atol=0.05)


def wide(places: int = 1) -> nn.Sequential:
    """A convolution of 90 units, at so many places a side."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 90, 7 - places), nn.ReLU())


@pytest.mark.parametrize(("reduction", "places", "count"), [("max", 3, 20), ("mean", 3, 80), ("max", 1, 80)])
def test_a_wide_layer_has_a_sample_of_directions_and_fewer_where_each_place_is_turned(reduction, places, count):
    model, stimuli, ids = wide(places), images(60), torch.arange(60)
    settings = RecordingSettings(bases=("random",), k=3, sample=60, batch_size=20, directions=80)
    for laid in (model, channels_last(copy.deepcopy(model))):
        result = record(laid, [Layer("0", reduction, torch.relu)], stimuli, ids, settings)["0", "random"]
        with torch.no_grad():
            maps = model(stimuli.batch(slice(None)))
        turned = torch.einsum("bchw,cd->bdhw", maps, random_directions(90, count, seed=7919))
        expected = pooled(turned, reduction)[result.sample_ids()]
        torch.testing.assert_close(result.sample, expected, rtol=1e-4, atol=1e-5)
        assert result.unit_ids.tolist() == list(range(count))


def test_directions_are_computed_once_and_the_same_in_every_shard():
    stimuli, layer = images(80), Layer("0", "max", torch.relu)
    settings = RecordingSettings(bases=("random",), k=3, sample=30, batch_size=20, seed=12345)
    misses = _shared.cache_info().misses
    whole = record(wide(3), [layer], stimuli, torch.arange(80), settings)["0", "random"]
    parts = [record(wide(3), [layer], stimuli, ids, settings)["0", "random"] for ids in torch.arange(80).split(40)]
    same(merge(*parts), whole)
    assert _shared.cache_info().misses == misses + 1


def test_the_mean_over_a_sample_of_directions_is_that_of_the_whole_rotation(generator):
    """Of sparse units: how far a direction's highest stimulus stands out differs from direction to direction."""
    sparse = torch.randn(400, 512, generator=generator).clamp_min(1.5) - 1.5
    whole, part = (
        torch.cat([sparse @ random_directions(512, count, seed=seed) for seed in range(6)], 1).amax(0).double()
        for count in (512, 128)
    )
    error = whole.std() * (1 / len(part) - 1 / len(whole)) ** 0.5
    assert abs(part.mean() - whole.mean()) < 3 * error
    assert error < 0.005


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_directions_are_taken_in_the_precision_of_the_layer(precision, generator):
    values = torch.randn(50, 300, generator=generator)
    deviations = torch.ones(300)
    deviations[0] = 1e-6  # a unit whose scale float16 cannot hold is left out
    values[:, 0] *= 1e-6
    readers = [Reader(Layer("1"), "random", seed=1, position=0, deviations=deviations) for _ in range(2)]
    exact, rounded = readers[0](values), readers[1](values.to(precision))
    assert rounded.dtype == precision
    assert (rounded.float() - exact).std() < (0.08 if precision == torch.float16 else 0.02)
    assert exact.std() > 0.9


def test_pooling_takes_the_maximum_or_the_mean_over_places(generator):
    maps = torch.randn(4, 3, 5, 5, generator=generator)
    assert torch.equal(pooled(maps, "max"), maps.amax((2, 3)))
    torch.testing.assert_close(pooled(maps, "mean"), maps.mean((2, 3)))
    assert torch.equal(pooled(maps[..., 0, 0], "max"), maps[..., 0, 0])


@pytest.mark.parametrize("side", [1, 5, 6, 7, 12])
def test_the_maximum_is_the_same_however_values_lie_in_memory(side: int, generator: torch.Generator):
    maps = torch.randn(3, 5, side, side, generator=generator) - 4  # so that most are negative
    maps[0, 1, -1, -1], maps[1, 2] = torch.nan, -torch.inf
    expected = maps.flatten(2).amax(2)
    tokens = nn.functional.pad(maps.flatten(2).mT, (0, 0, 1, 0), value=9.0)[:, 1:].movedim(2, 1)  # the first left out
    for laid in (maps, maps.to(memory_format=torch.channels_last), tokens):
        torch.testing.assert_close(pooled(laid, "max"), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("only", [(3,), (0, 2, 9), tuple(range(15))])
def test_units_that_are_measured_have_the_values_they_have_among_all(pool, only, generator: torch.Generator):
    maps = torch.randn(4, 16, 6, 6, generator=generator)
    for laid in (maps, maps.to(memory_format=torch.channels_last)):
        part, every = (Reader(Layer("1", pool, unit_ids=which), "neurons", seed=0, position=0) for which in (only, ()))
        torch.testing.assert_close(part(laid), every(laid)[:, only])


def test_an_unknown_layer_is_named_with_near_names():
    model = nn.Sequential()
    model.add_module("encoder", nn.Linear(36, 2))
    with pytest.raises(ThalwegError, match=r"'encodr'.*'encoder'"):
        record(model, [Layer("encodr")], images(4), torch.arange(4))


@pytest.mark.parametrize(("answer", "message"), [(lambda x: ("x", 1), "tuple"), (lambda x: x.sum(), r"shape \(\)")])
def test_an_output_that_holds_no_units_is_named(answer, message):
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> object:
            return answer(x)

    with pytest.raises(ThalwegError, match=f"layer '0' gave.*{message}"):
        record(nn.Sequential(Odd()), [Layer("0")], images(4), torch.arange(4))


def test_of_several_things_that_a_layer_returns_the_first_tensor_counts():
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[str, list[Tensor]]:
            return "said", [x, -x]

    class Both(nn.Module):
        def forward(self, given: tuple[str, list[Tensor]]) -> Tensor:
            return given[1][1]

    stimuli = images(40)
    result = record(
        nn.Sequential(nn.Flatten(), Two(), Both()), [Layer("1"), Layer("2"), Layer("2:in")], stimuli, torch.arange(40)
    )
    values = stimuli.batch(slice(None)).flatten(1)
    for name, sign in (("1", 1), ("2", -1), ("2:in", 1)):
        assert torch.equal(result[name, "neurons"].highest()[0][:, 0], (sign * values).amax(0))


def test_a_layer_that_runs_twice_or_for_some_batches_only_is_named():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(36, 36)

        def forward(self, x: Tensor) -> Tensor:
            return self.map(self.map(x.flatten(1)))

    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map, self.batches = nn.Linear(36, 2), 0

        def forward(self, x: Tensor) -> Tensor:
            self.batches += 1
            return self.map(x.flatten(1)) if self.batches < 3 else x

    with pytest.raises(ThalwegError, match="layer 'map' ran twice in one pass"):
        record(Twice(), [Layer("map")], images(4), torch.arange(4))
    with pytest.raises(ThalwegError, match="layer 'map' did not run for a batch"):
        record(Sometimes(), [Layer("map")], images(9), torch.arange(9), RecordingSettings(batch_size=3))


def test_the_units_that_are_named_are_measured_and_no_others():
    model, stimuli = nn.Sequential(nn.Flatten(), nn.Linear(36, 9)), images(30)
    chosen = record(model, [Layer("1", unit_ids=(7, 2))], stimuli, torch.arange(30))["1", "neurons"]
    every = record(model, [Layer("1")], stimuli, torch.arange(30))["1", "neurons"]
    assert chosen.unit_ids.tolist() == [2, 7]
    assert torch.equal(chosen.high_keys, every.high_keys[[2, 7]])
    with pytest.raises(ThalwegError, match="layer '1' has units 0 to 8; unit 9 was asked for"):
        record(model, [Layer("1", unit_ids=(9,))], stimuli, torch.arange(30))


def test_half_precision_counts_what_overflows():
    model, stimuli = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), images(50)
    with torch.no_grad():
        model[1].weight[0] = 1e5  # beyond what 16 bits hold
    half = record(
        copy.deepcopy(model), [Layer("1")], stimuli, torch.arange(50), RecordingSettings(precision="float16")
    )["1", "neurons"]
    whole = record(model, [Layer("1")], stimuli, torch.arange(50))["1", "neurons"]
    assert half.nonfinite.tolist() == [50, 0, 0]
    assert whole.nonfinite.sum() == 0
    torch.testing.assert_close(half.mean[1:], whole.mean[1:], atol=5e-3, rtol=5e-3)


def test_rows_that_are_not_the_batch_are_named():
    with pytest.raises(ThalwegError, match="144 rows for a batch of 4"):
        record(nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (144, 1))), [Layer("1")], images(4), torch.arange(4))


def test_hooks_are_taken_away_even_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError), capture_activations(model, [Layer("0")]):
        raise RuntimeError
    assert not model[0]._forward_hooks


def test_codes_stand_for_their_columns_without_a_table_of_all_stimuli() -> None:
    codes = torch.tensor([2, 0, 2, 1])
    table = Indicators(codes, 4)
    assert table.shape == (4, 4)
    assert torch.equal(table[torch.tensor([0, 3])], indicators(codes, 4)[[0, 3]])
    facts = StimulusMetadata(
        torch.zeros(1_000_000, 1), torch.arange(1_000_000)
    )  # as columns: four million million bytes
    assert facts.tables()["label"].shape == (1_000_000, 1_000_000)
