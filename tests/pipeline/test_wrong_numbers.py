"""Numbers that would be wrong without a word: each is refused, missing with a reason, or computed as it should be."""

import dataclasses
import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import cloudpickle
import pytest
import torch
from torch import Tensor, nn

import thalweg
from support.tiny import blobs, corners, network
from thalweg import Classifier, Images, Ladder, Layer, Observer, Rung, Splits, ThalwegError
from thalweg.measures.base import MEASURES, Measure
from thalweg.models import untrained as twins
from thalweg.models.records import DerivedTwin
from thalweg.observers.base import OBSERVERS, extract_features
from thalweg.observers.embedding import indicators
from thalweg.pipeline import score
from thalweg.pipeline.embed import embed_pool
from thalweg.pipeline.job import Model
from thalweg.pipeline.prepare import tasks_at_once
from thalweg.pipeline.request import check_ladder, note_on_default, observers_of, requested_observers
from thalweg.pipeline.settings import LARGEST, settings_of
from thalweg.pipeline.strengths import training_compute
from thalweg.pipeline.user_results import checked_summary
from thalweg.progress import Silent, Stages
from thalweg.recording import memory
from thalweg.recording.readout import NEURONS, RANDOM, directions, random_directions
from thalweg.recording.record import record
from thalweg.recording.settings import RecordingSettings
from thalweg.runs.directory import RunDirectory
from thalweg.strength import axes as strength
from thalweg.strength.probe import MOST_FEATURES, probe


def one_rung(build=lambda: network(2), train=Classifier(most_epochs=1), layers=(Layer("1"),), **fields) -> Ladder:  # noqa: B008
    return Ladder("own", (Rung("only", "dense", build, layers),), corners, train, **fields)


def model_of(seed: int = 0, of_survey: int = 0) -> Model:
    """The only model of such a ladder."""
    ladder, told = one_rung(), settings_of({"seed": of_survey, "device": "cpu"})
    return Model(RunDirectory(Path()), ladder, ladder.rungs[0], seed, told, Splits.of_pool(blobs(4, seed=0)), "")


# Who answers


@pytest.mark.parametrize(("ladder", "observer"), [("words", "hog"), ("mnist", "suffix"), ("addition", "image")])
def test_an_observer_that_sees_nothing_is_refused(ladder: str, observer: str, tmp_path: Path):
    modalities = {"words": "text", "mnist": "image", "addition": "pair"}
    own = OBSERVERS[observer].modality
    with pytest.raises(ThalwegError, match=f"{observer!r} sees stimuli of modality {own!r}.*{modalities[ladder]!r}"):
        thalweg.survey(ladder, observer=observer, out=tmp_path)


def test_a_default_that_takes_the_place_of_those_asked_for_is_said():
    texts, asked = one_rung(modality="text"), [OBSERVERS["hog"]]
    watching = observers_of(texts, asked)
    assert not watching[0].control
    assert watching[0].name in note_on_default(texts, asked, watching)
    assert note_on_default(one_rung(), asked, watching) == ""


def test_a_modality_without_an_observer_is_not_left_to_chance():
    with pytest.raises(ThalwegError, match=r"modality 'sound'.*no default observer"):
        observers_of(one_rung(modality="sound"), [])
    assert observers_of(one_rung(modality="sound"), [OBSERVERS["random"]])[0].name == "random"


def test_observers_of_one_name_and_without_features_are_refused():
    with pytest.raises(ThalwegError, match="two observers are called 'trivial'"):
        observers_of(one_rung(), [Observer("trivial", 1, lambda stimuli: stimuli.pixels)])
    with pytest.raises(ThalwegError, match="'empty' has no `features`"):
        observers_of(one_rung(), [Observer("empty", 1)])


DRIFT = iter(range(1000))


def drifting(stimuli: Images) -> Tensor:
    return torch.rand(len(stimuli), 3) + next(DRIFT)


def failing(stimuli: Images) -> Tensor:
    raise KeyError("tokens")


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (failing, r"observer 'mine' failed with KeyError: 'tokens' \(test_wrong_numbers.py, line"),
        (lambda stimuli: ["a"], "observer 'mine' failed with "),
        (lambda stimuli: stimuli.pixels, r"an array of shape \(40, 1, 12, 12\)"),
        (lambda stimuli: torch.empty(len(stimuli), 0), r"shape \(40, 0\)"),
        (lambda stimuli: torch.full((len(stimuli), 2), torch.nan), "NaN"),
        (drifting, "other vectors for the same stimuli"),
    ],
)
@pytest.mark.parametrize("piecewise", [False, True])
def test_what_a_users_observer_does_wrong_is_a_sentence(features, said: str, piecewise: bool):
    with pytest.raises(ThalwegError, match=said):
        extract_features(Observer("mine", 1, features, piecewise=piecewise), blobs(40, seed=0))


# What is kept


def test_an_edited_statistic_of_the_users_stimuli_is_computed_anew(tmp_path: Path):
    images = blobs(40, seed=0)
    kinds = [
        type("Own", (Images,), {"low_level": lambda self, at=at: self.pixels[:, :, at].float().mean(1)})
        for at in (2, 8)
    ]
    told, watching = settings_of({"cache": tmp_path, "workers": 1}), (OBSERVERS["trivial"],)
    files = [
        embed_pool(kind(images.pixels, images.labels, images.label_names), watching, told, Stages(Silent()))["trivial"]
        for kind in (*kinds, kinds[0])
    ]
    assert files[0] == files[2] != files[1]


# Twins


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = [1, 6, 6, 6, 6, 6]
        parts = [(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairwise(sizes)]
        self.trunk = nn.Sequential(*(module for part in parts for module in part))
        self.drop, self.head = nn.Dropout(0.9), nn.Linear(6, 4)
        for module in self.trunk:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.trunk(x).mean((2, 3))))


def test_statistics_of_an_untrained_twin_are_those_of_the_stimuli():
    torch.manual_seed(0)
    model, images = Deep(), blobs(120, seed=0)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    ids = twins.chosen(torch.arange(len(images)))
    assert len(ids) == 100
    found = twins.statistics(model, images, ids, device="cpu")
    torch.manual_seed(0)
    other = Deep()
    other.load_state_dict(found, strict=False)
    assert not other.load_state_dict(found, strict=False).unexpected_keys
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
    assert not any(module.training for module in model.modules())
    outputs = []
    other.trunk[13].register_forward_hook(lambda _module, _given, output: outputs.append(output))
    logits = other.eval()(images.batch(ids))
    assert outputs[0].std().item() == pytest.approx(1, abs=0.1)
    assert logits.abs().max() < 20
    reference = torch.optim.swa_utils.update_bn
    torch.manual_seed(0)
    theirs = Deep()
    theirs.drop.p = 0.0
    reference([images.batch(some) for some in ids.split(twins.BATCH)], theirs)
    assert torch.allclose(theirs.state_dict()["trunk.13.running_var"], found["trunk.13.running_var"])


def test_a_survey_settles_its_twins_and_leaves_out_what_is_not_known(tmp_path: Path):
    layers = (Layer("trunk.12", nonlinearity=torch.relu),)
    halved = DerivedTwin(lambda model, seed: model.head.weight.data.mul_(0.5), "its head halved")
    ladder = one_rung(Deep, lambda model, splits, seed: {}, layers, twins={"halved": halved})
    settings = {"seeds": 1, "workers": 1, "resamples": 100, "cache": tmp_path / "cache"}
    settings["twins"] = ("rerandomised", "untrained", "halved")
    run = thalweg.survey(ladder, out=tmp_path / "run", observer="hog", **settings)
    rows = {row["control"]: row for row in run.models.iter_rows(named=True)}
    assert rows["untrained"]["bits"] > -15  # without, some thousands below zero
    assert "estimated on 200 training stimuli" in rows["untrained"]["twin_note"]
    assert list(rows) == ["trained", "untrained", "halved", "rerandomised"]
    assert rows["rerandomised"]["bits"] > -15
    assert rows["rerandomised"]["twin_note"].startswith("each weight tensor drawn again from a Gaussian")
    assert "estimated on 200 training stimuli" in rows["rerandomised"]["twin_note"]
    assert run.record["ladders"]["own"]["twins"]["only"]["halved"].startswith("its head halved; running statistics")
    assert len({rows[control]["predictable"] for control in rows}) == 3  # what follows the layer changes none of it
    assert math.isnan(rows["trained"]["compute"])
    assert "not known" in rows["trained"]["compute_note"]
    assert "compute" not in {one["axis"] for one in run.shape}


# Strength


def test_stimuli_of_one_class_have_no_share():
    images = blobs(30, seed=0)
    alike = dataclasses.replace(images, labels=torch.zeros(30, dtype=torch.int64))
    found = strength.evaluate(network(2), alike)
    assert found["share"] is None
    assert found["share_note"] == strength.ONE_CLASS
    assert strength.entropy(torch.tensor([-1, -1, 3, 3])) == pytest.approx(1)


def test_compute_is_missing_where_it_cannot_be_counted():
    model = model_of()
    known = training_compute(network(2), model, {"train_examples": 10}, trained=True)
    assert known["compute"] == 3 * 10 * 2 * (144 * 2 + 2 * 4)
    for told in ({}, {"train_examples": 0}, {"train_examples": "many"}):
        assert training_compute(network(2), model, told, trained=True)["compute"] is None
    failed = training_compute(nn.Linear(3, 2), model, {"train_examples": 10}, trained=True)
    assert failed["compute"] is None
    assert "RuntimeError" in str(failed["compute_note"])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (None, r"`train` of ladder 'own', rung 'only', returned NoneType; a mapping"),
        ([1], "returned list"),
        ({"loss": object()}, "returned 'loss': object"),
        ({"train_loss": math.nan}, "train_loss = nan: training diverged"),
    ],
)
def test_what_training_returns_wrongly_is_a_sentence(told: object, said: str):
    with pytest.raises(ThalwegError, match=said):
        checked_summary("train", model_of(), told)
    plain = checked_summary("train", model_of(), {"train_loss": torch.tensor(0.5), "extra": math.inf})
    assert plain == {"train_loss": 0.5, "extra": None}


def test_a_ladder_that_nothing_trains_is_refused(tmp_path: Path):
    with pytest.raises(ThalwegError, match="rung 'only': nothing trains it"):
        thalweg.survey(one_rung(train=None), out=tmp_path / "run")
    with pytest.raises(ThalwegError, match="twin called 'rotated'"):
        check_ladder(one_rung(twins={"rotated": Classifier()}))


def test_observers_are_asked_once_and_are_observers():
    assert requested_observers(["hog", "hog", OBSERVERS["hog"], "trivial"]) == [OBSERVERS["hog"], OBSERVERS["trivial"]]
    with pytest.raises(ThalwegError, match=r"observer 'drifting' is function; .*thalweg\.Observer\("):
        requested_observers([drifting])
    with pytest.raises(ThalwegError, match="rung 'only': has no layers"):
        check_ladder(one_rung(layers=()))


def test_labels_that_are_no_places_get_a_column_each():
    assert indicators(torch.tensor([-1, 5, -1])).tolist() == [[1, 0], [0, 1], [1, 0]]
    assert indicators(torch.tensor([0, 2]), 4).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert indicators(torch.tensor([0, 10**12])).shape == (2, 2)


# Size


def test_a_probe_of_very_many_features_is_missing():
    labels, halves = torch.arange(40) % 2, (torch.arange(20), torch.arange(20, 40))
    value, note = probe(torch.rand(40, MOST_FEATURES + 1), labels, *halves)
    assert value is None
    assert "16,384" in note


def test_a_wide_layer_is_turned_along_a_sample_of_directions():
    turned = random_directions(5000, 300, seed=1)  # so many that they are made by way of Cholesky
    assert torch.allclose(turned.T @ turned, torch.eye(300), atol=1e-5)
    assert [directions(units, units) for units in (10, 256, 257, 5000, 10**6, 10**8)] == [10, 256, 256, 256, 134, 20]
    assert [directions(units, units, at_places=True) for units in (10, 64, 65, 10**8)] == [10, 64, 64, 20]
    assert [directions(units, units, 40, at_places=True) for units in (20, 21)] == [20, 20]
    assert directions(500_000, 20) == 20
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 5000))
    layers = [Layer("1", unit_ids=(7, 4999, 4000), nonlinearity=torch.relu)]
    found = record(
        model, layers, blobs(60, seed=0), torch.arange(60), RecordingSettings(bases=(NEURONS, RANDOM), k=2, sample=4)
    )
    assert found["1", NEURONS].unit_ids.tolist() == [7, 4000, 4999]
    assert found["1", RANDOM].unit_ids.tolist() == [0, 1, 2]
    assert (found["1", RANDOM].variance() > 0).all()


def test_what_cannot_fit_is_refused_beforehand():
    assert 0 < (memory.available_memory() or 1) < 1 << 50
    wide = memory.widths(network(30), [Layer("1")], blobs(4, seed=0))
    assert [(one.units, one.measured, one.numbers) for one in wide] == [(30, 30, 30)]
    settings, given = RecordingSettings(batch_size=50), {"basis": NEURONS, "stimuli": 200}
    controls = ("trained", "untrained", "rotated")
    assert memory.needed(wide, controls, settings, **given) < 1e7
    much = memory.needed([memory.Width("1", 10**9, 10**9, 10**9)], controls, settings, **given)
    many = memory.needed([memory.Width("1", 10**6, 10**6, 10**6)], controls, settings, **given)
    assert many > 2 * 10**6 * memory.ROWS  # what is scored has rows in the tables
    classes = memory.needed([memory.Width("1", 10**6, 10**6, 10**6)], controls, settings, statistics=1000, **given)
    assert classes > many + 2 * 2 * 8 * 1000 * 10**6  # a unit's sums of each class in both halves
    assert memory.needed(wide, controls, replace(settings, k=10**12), **given) > 1e15
    with pytest.raises(ThalwegError, match=r"^recording needs about \d+.* GB are free.*--units"):
        memory.check(much, ladder="l", rung="r", device="cpu")
    assert memory.check(1000, ladder="l", rung="r", device="cpu") == ""


def test_what_cannot_fit_in_several_workers_at_once_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 40 * memory.GIB)
    check = partial(memory.check, 15 * memory.GIB, ladder="l", rung="r", device="cpu")
    assert check(at_once=2) == "ladder 'l', rung 'r': recording needs about 15.0 GB of memory, for each worker"
    with pytest.raises(ThalwegError, match=r"15\.0 GB of memory for each of 3 workers, and 40\.0 GB .* --workers 2"):
        check(at_once=3)
    alone = model_of(2, 0)
    several = [replace(alone, settings=settings_of({"workers": 8, "shards": 3}), seed=seed) for seed in range(2)]
    assert tasks_at_once(several, several[0]) == 6
    few = [replace(each, settings=settings_of({"workers": 2, "shards": 3})) for each in several]
    assert tasks_at_once(few, few[0]) == 2


def test_seeds_of_any_size_work_or_are_refused():
    for seed in (2**64, -1, True):
        with pytest.raises(ThalwegError, match="seed is"):
            settings_of({"seed": seed})
    assert len(list(model_of(2, LARGEST).build().parameters())) == 4
    again = Layer("1", max_units=1)
    assert record(
        network(4), [again], blobs(9, seed=0), torch.arange(9), RecordingSettings(k=2, sample=4, seed=LARGEST)
    )


def test_a_worker_has_the_measures_of_the_process_that_sends_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The user's own are registered in the user's process alone; without them a worker would leave their rows out."""
    kept = dict(MEASURES)
    with monkeypatch.context() as patch:
        own = Measure(
            lambda activations: None,
            version=1,
            unit="share",
            range=(0.0, 1.0),
            chance=None,
            higher_is="more",
            cite="this test",
        )
        patch.setitem(MEASURES, "own", own)
        sent = cloudpickle.dumps(replace(model_of(), run=RunDirectory(tmp_path), measures=tuple(MEASURES.values())))
    assert set(MEASURES) == set(kept)

    def stop(*_: object) -> None:
        raise ThalwegError(f"known: {len(MEASURES)}")

    monkeypatch.setattr(score, "views_of_pool", stop)
    assert score.measure_models([cloudpickle.loads(sent)]) == f"known: {len(kept) + 1}"
    MEASURES.clear()
    MEASURES.update(kept)
