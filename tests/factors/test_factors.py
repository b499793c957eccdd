"""Factors say what is planted; a survey keeps them, and their relations; a factor is one function."""

import itertools
import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
import torch
from scipy.stats import norm

import thalweg
from support.surveys import OBSERVER
from support.tiny import blobs, tiny_ladder
from thalweg import Classifier, ThalwegError
from thalweg.bases.dictionaries import Dictionary, Encoder
from thalweg.bases.trained import TrainedDictionary
from thalweg.causes.association import associations
from thalweg.factors import base
from thalweg.factors.base import DICTIONARIES, LABEL_NOISE, Blocks, Rows, Sample, factor, factors_for
from thalweg.factors.density import activation_density, density
from thalweg.factors.effective_features import effective_features, exp_entropy, fit, gaussian
from thalweg.factors.generalisation_gap import generalisation_gap_accuracy, generalisation_gap_bits
from thalweg.factors.participation_ratio import participation_ratio
from thalweg.factors.polysemanticity import _random_sets, polysemanticity
from thalweg.factors.relation import relation
from thalweg.factors.representation_gap import representation_gap, representation_gap_density, telling
from thalweg.factors.sparsity import activation_sparsity, hoyer
from thalweg.ladders import LADDERS
from thalweg.measures.base import MEASURES
from thalweg.observers.base import OBSERVERS
from thalweg.observers.embedding import centred
from thalweg.pipeline.factors import Inputs, NetworkInputs, active_latents
from thalweg.pipeline.job import Model
from thalweg.pipeline.settings import settings_of
from thalweg.report import ladder as report_ladder
from thalweg.report.factors import missing_in_words
from thalweg.report.page import render
from thalweg.runs.directory import RunDirectory
from thalweg.strength.axes import AXES
from thalweg.trials.one_sided import driving

FACTORS = (
    *("generalisation_gap_bits", "generalisation_gap_accuracy", "participation_ratio", "activation_sparsity"),
    *("activation_density", "polysemanticity", "representation_gap", "representation_gap_density"),
)


def planted(spectrum: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Gaussian values with this spectrum, in a random basis and far from zero."""
    basis = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator))[0]
    return torch.randn(count, len(spectrum), generator=generator) * spectrum.sqrt() @ basis.T + 3


@pytest.mark.parametrize("spectrum", [torch.ones(30), 1 / torch.arange(1, 41).float(), torch.tensor([100.0, 1, 1, 1])])
def test_a_planted_spectrum_is_counted(spectrum: torch.Tensor, generator: torch.Generator):
    truth = float(spectrum.sum() ** 2 / spectrum.square().sum())
    found = [participation_ratio({"a": planted(spectrum, 120, generator)}) for _ in range(60)]
    values = torch.tensor([each.value for each in found])
    assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(len(values)) + 0.01 * truth  # without bias
    inside = sum(each.low <= truth <= each.high for each in found)
    assert inside >= 50
    plain = torch.cov(planted(spectrum, 120, generator).T)
    assert plain.trace() ** 2 / plain.square().sum() < truth + 0.5  # what the estimate corrects


def test_numerator_and_denominator_are_unbiased_for_any_distribution():
    """Over all samples of four from three points, which are far from Gaussian, their means are the truth."""
    points = torch.tensor([[0.0, 1.0], [2.0, 0.0], [5.0, 7.0]], dtype=torch.float64)
    cov = torch.cov(points.T, correction=0)
    n, sums = 4, torch.zeros(2, dtype=torch.float64)
    for chosen in itertools.product(range(3), repeat=n):
        x = points[list(chosen)] - points[list(chosen)].mean(0)
        sample = x.T @ x / (n - 1)
        trace, square, fourth = sample.trace(), sample.square().sum(), x.square().sum(1).square().sum() / (n - 1)
        both = (2 * square + (n * n - 3 * n + 1) * trace**2 - n * fourth, (n - 1) * (n - 2) * square + trace**2)
        sums += torch.stack([both[0], both[1] - n * fourth])
        if both[1] - n * fourth > 1e-6:  # the factor says the ratio of the two
            assert participation_ratio({"a": points[list(chosen)]}).value == pytest.approx(
                float(both[0] / (both[1] - n * fourth))
            )
    unbiased = sums / 3**n * (n - 1) / (n * (n - 2) * (n - 3))
    torch.testing.assert_close(unbiased, torch.stack([cov.trace() ** 2, cov.square().sum()]))


def test_layers_without_variance_have_no_dimensions(generator: torch.Generator):
    line = torch.randn(50, 1, generator=generator) * torch.ones(8)
    flat, broken = torch.full((50, 8), 0.1), torch.cat([line, torch.full((50, 1), torch.nan)], 1)
    found = participation_ratio({"line": line, "flat": flat, "broken": broken})
    assert found.layers["line"] == pytest.approx(1)
    assert math.isnan(found.layers["flat"])
    assert found.layers["broken"] == pytest.approx(1)  # by the units that are finite
    assert found.value == pytest.approx(1)
    assert participation_ratio({"flat": flat}).note == "no layer has units that vary"


def test_sparsity_at_its_two_ends(generator: torch.Generator):
    never = torch.zeros(60, 3)
    assert activation_sparsity({"a": torch.eye(60)}).value == pytest.approx(1)
    assert activation_sparsity(
        {"a": torch.where(torch.rand(60, 5, generator=generator) > 0.5, 7.0, -7.0)}
    ).value == pytest.approx(0, abs=1e-9)
    assert hoyer(torch.randn(50_000, 1, generator=generator)).item() == pytest.approx(
        1 - math.sqrt(2 / math.pi), abs=0.01
    )
    assert math.isnan(activation_sparsity({"a": never}).value)
    together = activation_sparsity({"one": torch.cat([torch.eye(60), never], 1), "all": torch.ones(60, 4)})
    assert together.value == pytest.approx(0.5)  # layers count alike, units that are never active do not
    assert together.n == 64
    torch.testing.assert_close(hoyer(torch.eye(60) * 1e30), hoyer(torch.eye(60)))


def test_density_is_the_share_of_stimuli_on_which_a_unit_is_active(generator: torch.Generator):
    active = torch.rand(1000, 4, generator=generator) < torch.tensor([0.02, 0.1, 0.5, 1.0])
    values = active * (1 + torch.rand(1000, 4, generator=generator))
    torch.testing.assert_close(density(values), active.double().mean(0))
    gelu = torch.nn.functional.gelu(torch.where(active, 3.0, -1.5))  # its dip below zero is no activity
    torch.testing.assert_close(density(gelu), active.double().mean(0))
    torch.testing.assert_close(density(-1e20 * values), density(values))
    assert density(torch.randn(1024, 500, generator=generator)).mean() == pytest.approx(0.77, abs=0.01)
    broken = torch.stack([torch.zeros(50), torch.full((50,), torch.nan)], 1)
    assert density(broken).isnan().all()
    estimate = activation_density({"a": values, "b": broken, "c": torch.ones(50, 2)})
    assert estimate.value == pytest.approx((float(active.double().mean()) + 1) / 2)
    assert estimate.n == 6
    assert estimate.low < estimate.value < estimate.high
    assert activation_density({"b": broken}).note == "no unit is ever active"


def test_places_are_read_one_by_one_in_every_basis():
    """A filter that is on at a tenth of the places is on somewhere in every picture."""
    tiny = replace(tiny_ladder(), controls=("rotated",))
    layer = thalweg.Layer("0", "max", torch.relu)
    torch.manual_seed(0)
    weights = torch.nn.Conv2d(1, 3, 3)
    with torch.no_grad():
        weights.weight[0], weights.bias[:] = 1 / 9, torch.tensor([-0.3, 5.0, 0.0])  # the first sees the bright square
    subject = thalweg.Subject("net", lambda: torch.nn.Sequential(weights, torch.nn.Flatten()), (layer,))
    splits = thalweg.Splits.of_pool(blobs(300, seed=0))
    settings = replace(settings_of({}), device="cpu")
    model = Model(RunDirectory(Path()), tiny, subject.rung(), 0, settings, splits, "")
    network = NetworkInputs(model, "trained")
    values = {control: Inputs(model, control, network).places["0"] for control in ("trained", "rotated")}
    everywhere = weights(splits.pool.batch(slice(None))).relu().detach()
    assert values["trained"].shape == values["rotated"].shape == (4 * 256, 3)
    torch.testing.assert_close(values["trained"].mean(0), everywhere.mean((0, 2, 3)), rtol=0.2, atol=0.05)
    assert density(values["trained"])[0] < 0.3
    assert density(everywhere.amax((2, 3)))[0] > 0.9
    products = values["rotated"].T @ values["rotated"] / 1024
    standardised = values["trained"] / values["trained"].std(0)
    assert products.trace() == pytest.approx(float((standardised.T @ standardised / 1024).trace()), rel=1e-4)


def test_latents_of_a_dictionary_are_read_after_their_activation(generator: torch.Generator):
    weights = [torch.randn(*shape, generator=generator) for shape in ((20, 4), (20,), (4,), (20, 4), (4,))]
    dictionary = Dictionary(*weights, "topk", k=2)
    values = torch.randn(50, 4, generator=generator)
    alive = torch.arange(20) < 15
    for encode in (Encoder(dictionary), TrainedDictionary(dictionary, alive, {}).encoder(thalweg.Layer("a"))):
        assert ((active_latents(encode)(values) > 0).sum(1) <= 2).all()
        assert (encode(values) < 0).any()
    assert active_latents(torch.neg) is torch.neg


def test_a_gap_has_an_interval_from_its_blocks(generator: torch.Generator):
    sizes = torch.full((10,), 200)
    losses = [torch.randn(10, generator=generator) / 20 + mean for mean in (0.1, 0.8)]
    training, held_out = (Blocks(sizes, {"loss": loss, "accuracy": 1 - loss / 4}) for loss in losses)
    found = generalisation_gap_bits(training, held_out)
    assert found.value == pytest.approx(float(losses[1].mean() - losses[0].mean()) / math.log(2), rel=1e-5)
    assert found.low < 0.7 / math.log(2) < found.high
    assert generalisation_gap_accuracy(training, held_out).value == pytest.approx(0.7 / 4, abs=0.02)
    assert math.isnan(generalisation_gap_bits(training, Blocks(sizes, {}, "none")).value)


def test_independent_factors_have_no_relation_and_equal_ones_have_all(generator: torch.Generator):
    names = [f"r{rung}" for rung in range(9) for _ in range(2)]
    missed = 0
    for _ in range(40):
        x, y = (torch.randn(9, generator=generator).repeat_interleave(2).tolist() for _ in range(2))
        found = relation(x, y, names)
        missed += not found.low <= 0 <= found.high
    assert missed <= 6  # 5 % of 40 are 2
    assert (found.n_models, found.n_rungs) == (18, 9)
    same = relation([*map(float, range(9))], [value**3.0 for value in range(9)], names[::2])
    assert (same.rho, same.high) == (1, 1)
    assert 0.85 < same.low < 1  # an order of nine rungs may be perfect by chance
    assert relation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], ["a", "b", "c"]).rho == -1
    assert "fewer than 5 rungs" in relation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], ["a", "b", "c"]).note
    assert relation([1.0, 1.0, math.nan], [1.0, 2.0, 3.0], ["a", "b", "c"]).note.startswith("the factor or the score")


def sample_of(values: torch.Tensor, classes: torch.Tensor) -> Sample:
    return Sample({"a": values}, classes)


def test_units_that_know_training_stimuli_by_heart_have_a_gap_and_sparse_ones_more(generator: torch.Generator):
    classes = torch.randint(4, (2, 800), generator=generator)
    honest, noise = (torch.randn(2, 800, 40, generator=generator) for _ in range(2))
    honest = honest + (classes[:, :, None] == torch.arange(40) % 4)  # says its class on both sides
    by_heart = noise + torch.stack([2.0 * (classes[0, :, None] == torch.arange(40) % 4), torch.zeros(800, 40)])
    estimates = {}
    for name, values in (("honest", honest), ("by heart", by_heart), ("noise", noise)):
        estimates[name] = representation_gap(sample_of(values[0], classes[0]), sample_of(values[1], classes[1]))
    assert estimates["by heart"].value == pytest.approx(norm.cdf(2 / math.sqrt(2)) - 0.5, abs=0.02)
    assert abs(estimates["honest"].value) < 0.02
    assert abs(estimates["noise"].value) < 0.02
    assert estimates["by heart"].n == 40
    sides = [sample_of(torch.cat([honest[side], by_heart[side]], 1), classes[side]) for side in (0, 1)]
    dense, sparse = torch.ones(200, 40), torch.eye(200)[:, :40]
    found = representation_gap_density(*sides, {"a": torch.cat([dense, sparse], 1)})  # those by heart are sparse
    assert found.low < found.value < found.high < -0.7
    nothing = [representation_gap_density(*sides, {"a": torch.rand(200, 80, generator=generator)}) for _ in range(4)]
    assert sum(each.low < 0 < each.high for each in nothing) >= 3
    assert abs(sum(each.value for each in nothing)) / 4 < 0.2
    assert math.isnan(representation_gap_density(*sides, {"a": torch.ones(200, 80)}).value)  # density does not vary


def test_the_probability_of_telling_a_class_counts_ties_half():
    values, codes = torch.tensor([[0.0], [0.0], [1.0], [2.0]]), torch.tensor([0, 1, 0, 1])
    assert telling(values, codes, torch.tensor([0, 1])).tolist() == [[0.375, 0.625]]
    one = sample_of(torch.rand(60, 3), torch.zeros(60, dtype=torch.int64))
    assert "two classes" in representation_gap(one, one).note


def test_even_use_of_k_latents_is_k_and_use_of_one_is_1():
    assert exp_entropy(torch.eye(9, dtype=torch.float64)[:2]).tolist() == pytest.approx([1, 1])
    assert exp_entropy(torch.ones(1, 7, dtype=torch.float64)).item() == pytest.approx(7)
    assert exp_entropy(torch.tensor([3.0, 3, 3, 0, 0], dtype=torch.float64)).item() == pytest.approx(3)


def test_a_planted_dictionary_is_counted_and_gaussian_values_have_none(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
):
    """24 features in 12 dimensions are recovered to a quarter; Gaussian values need what Gaussian values need."""
    monkeypatch.setattr("thalweg.factors.effective_features.MOST_CYCLES", 1)
    monkeypatch.setattr("thalweg.factors.effective_features.CYCLE", 250)
    directions = torch.nn.functional.normalize(torch.randn(24, 12, generator=generator), dim=1)
    on = torch.rand(2000, 24, generator=generator) < 1.2 / 24
    values = (on * (0.5 + torch.rand(2000, 24, generator=generator))) @ directions
    surrogate = gaussian(values, generator)
    torch.testing.assert_close(torch.cov(surrogate.T), torch.cov(values.T), atol=0.05, rtol=0.1)
    planted, null, again = (fit(each, generator) for each in (values, surrogate, gaussian(values, generator)))
    assert planted.features[0] == pytest.approx(24, rel=0.25)
    assert planted.k[0] < 0.65 * null.k[0]
    assert again.k[0] / null.k[0] == pytest.approx(1, abs=0.15)


def test_a_layer_without_rows_or_units_enough_has_no_dictionary(generator: torch.Generator):
    few = {"a": Rows(torch.randn(30, 12, generator=generator), torch.relu)}
    assert "30 rows are too few for a dictionary of 12 units" in effective_features(few).note
    assert "fewer than two units" in effective_features({"a": Rows(torch.ones(90, 3), torch.relu)}).note
    assert "no neurons" in effective_features({}).note


def test_what_takes_long_is_computed_on_request():
    usual, more = ({each.name for each in factors_for(asked)} for asked in ((), ("effective_features",)))
    assert usual == set(FACTORS)
    assert more - usual == {
        *("effective_features", "effective_features_ratio", "features_per_unit", "features_per_unit_surrogate")
    }
    with pytest.raises(ThalwegError, match="effective_features"):
        factors_for(("effective_feature",))
    assert {each.name for each in factors_for((), (LABEL_NOISE,))} - usual == {"memorised_fraction"}
    assert {each.name for each in factors_for((), (DICTIONARIES,))} - usual == {"latent_density"}


def test_a_factor_names_inputs_that_there_are():
    with pytest.raises(ThalwegError, match="'recordings'"):
        factor(version=1, unit="", range=(0.0, 1.0), higher_is="", cite="")(lambda recording: None)


@pytest.fixture(scope="module")
def memorised(tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    """A ladder whose second rung learns labels by heart that nothing can predict; and one factor more."""

    @factor(version=1, unit="layers", range=(0.0, math.inf), higher_is="deeper", cite="nobody")
    def of_ones_own(recordings, log):
        """How many layers there are."""
        if log["train_examples"] == 0:
            raise RuntimeError("never trained")
        return base.Estimate(float(len(recordings)))

    def splits(source, seed):
        train, validation, pool = (blobs(count, seed=seed + part) for part, count in enumerate((100, 40, 300)))
        shuffled = train.labels[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
        return thalweg.Splits(thalweg.Images(train.pixels, shuffled, train.label_names), validation, pool)

    by_heart = Classifier(learning_rate=0.02, patience=30, most_epochs=30)
    tiny = tiny_ladder()

    def last(model, splits, seed):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(150):
            optimiser.zero_grad()
            batch = splits.train.batch(slice(None))
            torch.nn.functional.cross_entropy(model(batch), splits.train.labels.long()).backward()
            optimiser.step()
        return {"train_examples": 15000}

    rung = tiny.rungs[2]
    ladder = thalweg.Ladder("by-heart", (rung,), splits, last, twins={"stopped": by_heart})
    try:
        return thalweg.survey(
            ladder,
            out=tmp_path_factory.mktemp("factors") / "run",
            observer=OBSERVER,
            seeds=1,
            workers=1,
            resamples=100,
        )
    finally:
        del base.FACTORS["of_ones_own"]


def test_a_memorising_model_has_a_gap_and_an_untrained_twin_none(memorised: thalweg.Run):
    models = {row["control"]: row for row in memorised.models.iter_rows(named=True)}
    assert models["trained"]["generalisation_gap_accuracy_low"] > 0.4
    assert models["trained"]["generalisation_gap_bits_low"] > 1
    assert models["trained"]["representation_gap"] > 0.15
    assert models["trained"]["representation_gap_low"] > 0
    assert models["rotated"]["representation_gap"] > 0.15
    assert abs(models["untrained"]["representation_gap"]) < 0.1
    assert models["rotated"]["generalisation_gap_bits"] == models["trained"]["generalisation_gap_bits"]
    assert abs(models["untrained"]["generalisation_gap_accuracy"]) < 0.15
    assert (
        models["untrained"]["generalisation_gap_accuracy_low"] < 0 < models["untrained"]["generalisation_gap_bits_high"]
    )


def test_the_rotated_twin_fills_as_many_directions_as_the_standardised_layer(memorised: thalweg.Run):
    models = {row["control"]: row for row in memorised.models.iter_rows(named=True)}
    layers = memorised.recordings("by-heart", models["trained"]["rung"])
    passed_on = {name: torch.cat([half.sample for half in halves]).relu() for name, halves in layers.items()}
    standardised = {name: values / values.std(0).clamp_min(1e-9) for name, values in passed_on.items()}
    expected = participation_ratio(standardised).value
    assert models["rotated"]["participation_ratio"] == pytest.approx(expected, rel=0.02)
    assert models["trained"]["participation_ratio"] != pytest.approx(expected, rel=0.02)
    assert models["rotated"]["activation_sparsity"] != pytest.approx(models["trained"]["activation_sparsity"], rel=1e-2)
    assert models["trained"]["participation_ratio"] != pytest.approx(
        models["untrained"]["participation_ratio"], rel=1e-2
    )


def test_the_stimuli_that_drive_a_unit_are_those_on_which_it_does_not_rest(memorised: thalweg.Run):
    for half in memorised.recordings("by-heart", memorised.models["rung"][0])["1"]:
        upper = torch.arange(len(half.unit_ids)) % 2 == 0
        (high, highest), (low, lowest) = half.highest(), half.lowest()
        on = highest[:, :30].where(high[:, :30] > half.sample.relu().median(0).values[:, None], -1)
        assert torch.equal(driving(half, upper, torch.relu)[upper], on[upper])
        at_rest = half.sample.median(0).values <= 0  # what a rectifier cuts off is no pole
        assert (driving(half, ~upper, torch.relu)[~upper & at_rest & (low[:, 0] < 0)] >= 0).sum() == 0
        assert torch.equal(driving(half, ~upper), torch.where(upper[:, None], lowest[:, :30], highest[:, :30]))
    row = memorised.factors.filter(factor="polysemanticity", control="trained", layer="").row(0, named=True)
    assert row["note"] or 0 <= row["low"] <= row["value"] <= row["high"] <= 1


def test_a_factor_of_ones_own_is_a_column_and_its_failure_a_note(memorised: thalweg.Run):
    models = {row["control"]: row for row in memorised.models.iter_rows(named=True)}
    assert models["trained"]["of_ones_own"] == 1
    failed = memorised.factors.filter(factor="of_ones_own", control="untrained")
    assert failed["note"].to_list() == ["it failed: RuntimeError: never trained"]
    assert memorised.record["factors"]["of_ones_own"]["meaning"] == "How many layers there are."
    assert set(memorised.relations["factor"]) == {*FACTORS, "of_ones_own"}
    layers = memorised.factors.filter((pl.col("layer") != "") & (pl.col("factor") == "participation_ratio"))
    assert set(layers["layer"]) == {"1"}


def test_a_runs_factors_are_related_to_its_curve_with_strength_held(memorised: thalweg.Run):
    table = associations(memorised)
    assert len(table) == 2 * len(memorised.record["factors"])
    known = table.filter(factor="participation_ratio", headline="predictable").row(0, named=True)
    again = memorised.relations.filter(kind="all", factor="participation_ratio", headline="predictable")["rho"][0]
    assert known["rho"] == pytest.approx(again, nan_ok=True)
    assert known["n_rungs"] == len(memorised.models["rung"].unique())
    assert known["note"]


def test_an_old_run_is_described_by_itself(memorised: thalweg.Run, monkeypatch: pytest.MonkeyPatch):
    """What registries say after a run was measured changes nothing in its report; it shows what the factors are."""
    html = render(memorised)
    for name, measure in list(MEASURES.items()):
        monkeypatch.setattr(measure.function, "__doc__", "Something else altogether.")
        monkeypatch.setitem(MEASURES, name, replace(measure, version=99, unit="furlongs", chance=0.9, headline=""))
    monkeypatch.setattr("thalweg.measures.headlines.HEADLINES", {})
    with ExitStack() as emptied:  # afterwards they are in their order again
        for registry in (base.FACTORS, OBSERVERS, LADDERS, AXES):
            emptied.enter_context(patch.dict(registry, clear=True))
        assert render(thalweg.open_run(memorised.path)) == html
    assert "Something else" not in html
    assert "How many layers there are." in html
    assert "it failed: RuntimeError: never trained" in html


def test_the_report_counts_the_models_that_a_factor_fails_on(memorised: thalweg.Run):
    with_failure = memorised.factors.with_columns(
        value=pl.when(pl.col("factor") == "of_ones_own").then(math.nan).otherwise(pl.col("value")),
        note=pl.when(pl.col("factor") == "of_ones_own").then(pl.lit("it failed: x")).otherwise(pl.col("note")),
    )
    (ladder,) = report_ladder.ladders(thalweg.open_run(memorised.path))
    ladder.run.__dict__["factors"] = with_failure
    assert "of ones own, 1 of 1 models (it failed: x)" in missing_in_words(ladder)


def test_a_published_model_has_no_gap_even_if_there_are_training_stimuli():
    """A corpus is split for a vocabulary's counts; the model was trained on another."""
    tiny = tiny_ladder()
    subject = thalweg.Subject("net", tiny.rungs[0].build, tiny.rungs[0].layers)
    splits = thalweg.Splits(*(blobs(40, seed=seed) for seed in range(3)))
    model = Model(RunDirectory(Path()), tiny, subject.rung(), 0, settings_of({}), splits, "")
    inputs = NetworkInputs(model, "trained")
    found = generalisation_gap_bits(inputs.training, inputs.held_out)
    assert math.isnan(found.value)
    assert "not trained here" in found.note
    assert "not trained here" in Inputs(model, "trained", inputs).training_sample.note


def by_latents(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse latents (stimulus, latent), and vectors in which an observer sees them through noise."""
    latents = (torch.rand(2000, 30, generator=generator) < 0.06) * (1 + torch.rand(2000, 30, generator=generator))
    seen = latents @ torch.randn(30, 80, generator=generator) + torch.randn(2000, 80, generator=generator)
    return latents, centred(seen)


def driven(values: torch.Tensor) -> torch.Tensor:
    """(unit, half, stimulus), the ids of the stimuli that drive each unit most."""
    ids = [half[values[half].topk(30, dim=0).indices.T] for half in torch.arange(len(values)).view(2, -1)]
    return torch.stack(ids, 1)


def test_the_null_of_polysemanticity_takes_no_more_memory_of_a_larger_pool():
    assert {each.untyped_storage().nbytes() for each in _random_sets(10_000)} == {2 * 30 * 8}


def test_units_of_more_latents_are_more_polysemantic_and_random_stimuli_are_nothing(generator: torch.Generator):
    latents, embedding = by_latents(generator)
    equal = latents.gt(0) + 0.1 * torch.rand(latents.shape, generator=generator)  # as strong in every latent
    units = {count: equal.view(2000, -1, count).amax(2)[:, : 28 // count] for count in (1, 2)}
    units[4] = equal[:, :28].view(2000, -1, 4).amax(2)
    found = {count: polysemanticity({"a": driven(values)}, embedding) for count, values in units.items()}
    assert found[1].value == pytest.approx(0, abs=0.1)
    assert found[2].value == pytest.approx(1 / 2, abs=0.1)
    assert found[4].value == pytest.approx(3 / 4, abs=0.1)
    assert [found[count].n for count in (1, 2, 4)] == [28, 14, 7]
    assert found[1].high < found[2].low < found[2].high < found[4].low
    noise = driven(torch.rand(2000, 200, generator=generator))
    nothing = polysemanticity({"a": noise}, embedding)
    assert math.isnan(nothing.value)
    assert "no more alike than random" in nothing.note
    both = polysemanticity({"noise": noise, "a": driven(units[2])}, embedding)
    assert both.value == found[2].value
    assert math.isnan(both.layers["noise"])
    few = driven(units[1]).clone()
    few[:, 0, 5:] = -1  # rests on all but five of a half
    assert math.isnan(polysemanticity({"a": few}, embedding).value)
    assert "whole stimuli" in polysemanticity({"a": few}, None).note
