"""What is learnt by heart is found where it is planted: of wrong labels, and by training on halves."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import thalweg
from support.surveys import OBSERVER
from support.tiny import blobs, network, tiny_ladder
from thalweg import Layer, NumberPairs, Rung, Splits, ThalwegError
from thalweg.factors.base import Retrained, WrongLabels
from thalweg.factors.memorisation import PAIRS, memorisation, memorised_share
from thalweg.factors.memorised_fraction import learnt_by_heart, memorised_fraction
from thalweg.pipeline.job import Model
from thalweg.pipeline.retraining import retrained
from thalweg.pipeline.settings import settings_of
from thalweg.progress import Silent
from thalweg.report.page import render
from thalweg.runs.directory import RunDirectory
from thalweg.stimuli.label_noise import with_wrong_labels

CLASSES = 4


def of(answered: Tensor, taught: Tensor) -> thalweg.factors.base.Estimate:
    return memorised_fraction(WrongLabels(answered, taught, CLASSES))


def test_wrong_labels_learnt_by_heart_count_one_guesses_none_and_right_answers_less(generator: torch.Generator):
    true, shift, guesses = (torch.randint(1, CLASSES, (600,), generator=generator) for _ in range(3))
    taught = (true + shift) % CLASSES
    assert of(taught, taught).value == 1
    assert of(true, taught).value == pytest.approx(-1 / (CLASSES - 1))
    half = of(torch.where(torch.arange(600) < 300, taught, true), taught)
    assert half.value == pytest.approx((0.5 - 1 / CLASSES) / (1 - 1 / CLASSES))
    assert half.low < half.value < half.high
    assert half.n == 600
    inside = 0
    for _ in range(100):
        guesses = torch.randint(CLASSES, (600,), generator=generator)
        estimate = of(guesses, taught)
        inside += estimate.low <= 0 <= estimate.high
    assert inside >= 88  # 95 expected
    some = torch.tensor([True, False, True])
    two = torch.tensor([1, 0, 0]), torch.tensor([1, 1, 1])
    assert learnt_by_heart(*two, some, 2) == 0  # one of two, of two answers
    assert math.isnan(learnt_by_heart(*two, ~some & some, 2))


def test_so_many_labels_are_wrong_and_the_others_as_they_were():
    images = blobs(500, seed=0)
    noisy = with_wrong_labels(images, 0.3, seed=1)
    assert int((noisy.labels != images.labels).sum()) == 150  # a wrong label is that of another class
    assert torch.equal(with_wrong_labels(images, 0.3, seed=1).labels, noisy.labels)
    assert not torch.equal(with_wrong_labels(images, 0.3, seed=2).labels, noisy.labels)
    shifts = ((noisy.labels - images.labels) % CLASSES).bincount(minlength=CLASSES)
    assert shifts[1:].min() > 25  # the three others alike: 50 expected of each
    assert with_wrong_labels(images, 0, seed=1) is images


class Table(nn.Module):
    """Says of stimuli that it was trained on what it was taught, and of all others what it says always."""

    def __init__(self, otherwise: int, knows: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)  # a layer, as a rung has
        self.otherwise, self.knows = otherwise, knows
        self.known: dict[float, int] = {}

    def forward(self, x: Tensor) -> Tensor:
        keys = x.flatten(1).double().sum(1).tolist()
        return nn.functional.one_hot(
            torch.tensor([self.known.get(key, self.otherwise) for key in keys]), CLASSES
        ).float()


def learn(table: nn.Module, splits: Splits, seed: int) -> dict[str, float]:
    assert isinstance(table, Table)
    keys = splits.train.batch(slice(None)).flatten(1).double().sum(1).tolist()
    known = zip(keys, splits.train.labels.tolist(), strict=True)
    table.known = {key: label for key, label in known if hash(key) % 100 < 100 * table.knows}
    return {}


def of_half_trainings(table: Table, labels: Tensor) -> Retrained:
    """What tables say that are trained anew on halves of 200 stimuli."""
    images = replace(blobs(200, seed=5), labels=labels)
    rung = Rung("table", "table", lambda: table, (Layer("linear"),), train=learn)
    ladder = thalweg.Ladder("tables", (rung,), lambda source, seed: splits)
    splits = Splits(images, images, images)
    settings = replace(settings_of({}), device="cpu")
    return retrained(Model(RunDirectory(Path()), ladder, rung, 0, settings, splits, ""), "trained")


def test_a_table_memorises_all_and_what_says_the_same_always_nothing(generator: torch.Generator):
    labels = torch.randint(1, CLASSES, (200,), generator=generator)
    heart = of_half_trainings(Table(otherwise=0), labels)
    assert heart.trained_on.shape == (PAIRS, 2, 200)
    assert torch.equal(heart.trained_on[:, 0], ~heart.trained_on[:, 1])  # halves that exclude each other
    assert torch.equal(heart.trained_on, heart.right)
    assert memorisation(heart).value == memorised_share(heart).value == 1
    constant = of_half_trainings(Table(otherwise=1, knows=0), labels)
    assert memorisation(constant).value == memorised_share(constant).value == 0
    part = of_half_trainings(Table(otherwise=0, knows=0.4), labels)
    known = part.right.any(0).any(0).double().mean()
    assert 0.3 < known < 0.5
    assert memorisation(part).value == pytest.approx(float(known))
    assert memorised_share(part).value == pytest.approx(float(known))
    lucky = of_half_trainings(Table(otherwise=1), labels)  # rightly answered too where it was not trained on
    assert memorisation(lucky).value == pytest.approx(float((labels != 1).double().mean()))


def test_planted_memorisation_lies_in_its_interval_and_unstable_answers_are_none(generator: torch.Generator):
    inside, none, pairs = 0, [], PAIRS
    for _ in range(60):
        first = torch.rand(pairs, 300, generator=generator) < 0.5
        trained_on = torch.stack([first, ~first], 1)
        luck = torch.rand(trained_on.shape, generator=generator)
        estimate = memorisation(Retrained(trained_on, luck < torch.where(trained_on, 0.9, 0.6)))
        inside += estimate.low <= 0.3 <= estimate.high
        none.append(memorised_share(Retrained(trained_on, luck < 0.5)))
    assert inside >= 51  # 57 expected
    assert abs(sum(each.value for each in none)) / 60 < 0.01
    assert sum(each.low <= 0 <= each.high for each in none) >= 51


def test_what_is_not_trained_anew_says_why(tmp_path: Path):
    images = blobs(130, seed=0)
    tiny = tiny_ladder()
    model = Model(RunDirectory(tmp_path), tiny, tiny.rungs[0], 0, settings_of({}), Splits(images, images, images), "")
    assert "no twin" in memorisation(retrained(model, "untrained")).note
    course = replace(model, ladder=replace(tiny, checkpoint_trainer=lambda *_: iter(())))
    assert "checkpoints of one training run" in memorised_share(retrained(course, "trained")).note
    nameless = replace(images, label_names=())
    silent = replace(model, splits=Splits(nameless, nameless, nameless))
    assert "tells no labels" in memorisation(retrained(silent, "trained")).note


class Heard(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[thalweg.Run, list[str]]:
    """A survey with label noise of a rung that learns all labels by heart, and of one that has no room for it."""

    def splits(source, seed):
        return Splits(*(blobs(count, seed=seed + part) for part, count in enumerate((120, 40, 240))))

    def by_heart(model, splits, seed):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(splits.train.batch(slice(None))), splits.train.labels.long()).backward()
            optimiser.step()
        return {}

    layer = (Layer("1", "max", torch.relu),)
    rungs = (
        Rung("wide", "dense", lambda: network(64), layer, train=by_heart),
        Rung("narrow", "dense", lambda: network(2), layer, train=by_heart, label_noise=0.1),
    )
    heard = Heard()
    run = thalweg.survey(
        thalweg.Ladder("noisy", rungs, splits),
        out=tmp_path_factory.mktemp("noisy") / "run",
        observer=OBSERVER,
        seeds=1,
        workers=1,
        resamples=100,
        label_noise=0.3,
        factors="memorisation",
        device="cpu",
        progress=heard,
    )
    return run, heard.said


def test_a_survey_with_label_noise_says_how_much_of_it_is_known_by_heart(noisy: tuple[thalweg.Run, list[str]]):
    run, said = noisy
    models = {(row["rung"], row["control"]): row for row in run.models.iter_rows(named=True)}
    wide, narrow = (models[name, "trained"] for name in ("wide", "narrow"))
    assert wide["memorised_fraction_low"] > 0.7
    assert narrow["memorised_fraction_high"] < wide["memorised_fraction_low"]
    assert abs(models["wide", "untrained"]["memorised_fraction"]) < 0.35
    assert wide["memorisation"] > 0.2 > narrow["memorisation"] - 0.1
    assert 0 < wide["memorisation_low"] < wide["memorisation"] < wide["memorisation_high"]
    assert wide["memorised_share_low"] > 0.1
    assert wide["generalisation_gap_accuracy"] > 0.3  # as labelled: it knows these by heart, and no others
    assert wide["accuracy"] > 0.5  # strength is by the right labels
    untrained = run.factors.filter(factor="memorisation", control="untrained", layer="")
    assert "no twin" in untrained["note"][0]
    assert any(line.startswith("memorisation: each of 2 models is trained 20 times more") for line in said)
    assert run.record["ladders"]["noisy"]["notes"] == [
        "label noise: 36 of 120 training labels are wrong, of wide",
        "label noise: 12 of 120 training labels are wrong, of narrow",
    ]
    assert run.record["settings"]["label_noise"] == 0.3
    assert {"memorised_fraction", "memorisation"} <= set(run.claims.filter(claim="H2")["quantity"])
    html = render(run)
    assert "36 of 120 training labels are wrong, of wide" in html
    assert "memorised fraction: crisp" in html


def test_labels_that_cannot_be_wrong_are_refused_before_the_work(tmp_path: Path):
    pairs = NumberPairs(torch.tensor([[1, 2], [3, 4]]), p=7)
    with pytest.raises(ThalwegError, match=r"NumberPairs\) are no field that could be changed.*--label-noise"):
        with_wrong_labels(pairs, 0.5, 0)
    one = replace(blobs(9, seed=0), labels=torch.zeros(9, dtype=torch.int64), label_names=("x",))
    with pytest.raises(ThalwegError, match="of one class"):
        with_wrong_labels(one, 0.5, 0)
    for share in (1.5, -0.1, True):
        with pytest.raises(ThalwegError, match=r"label_noise \(--label-noise\) is .*from 0 to 1"):
            settings_of({"label_noise": share})
    with pytest.raises(ThalwegError, match=r"rung 'r': `label_noise` is -0\.5"):
        Rung("r", "k", network, (Layer("1"),), label_noise=-0.5)
    tiny = tiny_ladder()
    subject = thalweg.Subject("net", tiny.rungs[0].build, tiny.rungs[0].layers).rung()
    ladder = replace(tiny, rungs=(subject,))
    with pytest.raises(ThalwegError, match="'net': a published model is not trained here"):
        thalweg.survey(ladder, out=tmp_path / "run", observer=OBSERVER, label_noise=0.2)
    with pytest.raises(ThalwegError, match="rung 'dense-2': its stimuli are of one class"):
        thalweg.survey(
            replace(tiny, splits=lambda source, seed: Splits(one, one, blobs(200, seed=0))),
            out=tmp_path / "run",
            observer=OBSERVER,
            label_noise=0.2,
        )
    assert not (tmp_path / "run" / "settings.json").exists()
