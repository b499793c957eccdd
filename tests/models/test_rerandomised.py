"""Re-randomised twins keep the size of weights and nothing else; which twins are measured can be said."""

from pathlib import Path

import polars as pl
import pytest
import torch
from torch import nn

import thalweg
from support.surveys import run
from support.tiny import corners, tiny_ladder
from thalweg import Ladder, ThalwegError
from thalweg.ladders import LADDERS, causal, words
from thalweg.models.rerandomised import rerandomise
from thalweg.pipeline.job import twins_of
from thalweg.report import listings
from thalweg.report.ladder import ladders
from thalweg.report.styles import styles


class Language(nn.Module):
    """An embedding that is tied to the logits, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.middle = nn.Embedding(50, 40), nn.Linear(40, 40)
        self.logits = nn.Linear(40, 50, bias=False)
        self.logits.weight = self.tokens.weight
        with torch.no_grad():
            self.tokens.weight.mul_(3).add_(2)


def weights_of(seed: int, **options: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = Language()
    rerandomise(model, seed, **options)
    return dict(model.state_dict())


def test_weights_are_drawn_again_with_their_mean_and_variance():
    torch.manual_seed(0)
    before = Language().state_dict()
    after, again, other = weights_of(3), weights_of(3), weights_of(4)
    for name, weight in before.items():
        found = after[name]
        assert not torch.allclose(found, weight)
        assert found.mean().item() == pytest.approx(
            weight.mean().item(), abs=4 * weight.std().item() / weight.numel() ** 0.5
        )
        assert found.std().item() == pytest.approx(weight.std().item(), rel=0.35 if weight.ndim == 1 else 0.08)
        assert abs(torch.corrcoef(torch.stack([found.flatten(), weight.flatten()]))[0, 1]) < 0.5
        assert torch.equal(again[name], found)
        assert not torch.equal(other[name], found)
    assert after["tokens.weight"] is not after["logits.weight"]
    assert torch.equal(after["tokens.weight"], after["logits.weight"])  # still tied
    kept = weights_of(3, keep_embeddings=True)
    assert torch.equal(kept["tokens.weight"], before["tokens.weight"])
    assert torch.equal(kept["logits.weight"], before["logits.weight"])
    assert torch.equal(kept["middle.weight"], after["middle.weight"])


def test_which_ladders_have_it_by_default_and_that_all_can():
    on = {name for name, ladder in LADDERS.items() if "rerandomised" in twins_of(ladder)}
    assert on == {"words", "parallel", "gpt2", "pythia", "gemma-scope-2", "pythia-sparsify"}
    assert "rerandomised" in twins_of(words.ladder(32))
    assert "rerandomised" in twins_of(causal.pythia(410))
    for ladder in LADDERS.values():
        assert twins_of(ladder, ("rerandomised",)) == ("rerandomised",)
        assert twins_of(ladder, ("none",)) == ()
    assert twins_of(LADDERS["addition"]) == ("untrained", "rotated", "memorising")
    assert twins_of(LADDERS["addition"], ("memorising", "untrained")) == ("untrained", "memorising")


def alone(tiny: Ladder) -> Ladder:
    """The ladder of one rung."""
    return Ladder("one", tiny.rungs[1:2], tiny.splits, tiny.train)


def test_a_survey_draws_the_twins_that_were_asked_for(tmp_path: Path):
    ladder = alone(tiny_ladder())
    named = ["rerandomised", "rerandomised-keeping-embeddings", "rotated"]
    found = run(ladder, tmp_path / "run", seeds=1, twins=named)
    controls = found.models["control"].unique(maintain_order=True).to_list()
    assert controls == ["trained", "rotated", "rerandomised", "rerandomised-keeping-embeddings"]
    both = found.units.filter(pl_control("rerandomised")), found.units.filter(pl_control(named[1]))
    assert both[0]["value"].equals(both[1]["value"], null_equal=True)  # there are no embeddings
    shown = next(ladders(found))
    assert {f"trained − {name}" for name in named} < set(listings.twins(shown, "predictable").columns)
    styled = styles(shown.controls)
    assert len({styled[name] for name in shown.controls}) == 4  # each has a colour and a shape of its own
    assert found.record["ladders"]["one"]["twins"]["dense-4"]["rerandomised"].startswith("each weight tensor drawn")
    bare = run(ladder, tmp_path / "bare", seeds=1, twins="none")
    assert set(bare.models["control"]) == {"trained"}
    assert bare.models["predictable"].equals(found.models.filter(control="trained")["predictable"])


def pl_control(name: str) -> pl.Expr:
    return (pl.col("control") == name) & ~pl.col("exchanged")


@pytest.mark.parametrize(
    ("twins", "said"),
    [(("rerandomized",), "did you mean 'rerandomised'"), (("none", "rotated"), "'none' stands alone")],
)
def test_twins_that_there_are_not(tmp_path: Path, twins: tuple[str, ...], said: str):
    with pytest.raises(ThalwegError, match=said):
        thalweg.survey(alone(tiny_ladder()), out=tmp_path / "run", observer="hog", twins=twins)


def test_a_users_only_model_is_not_changed_and_a_twin_that_overflows_has_no_strength(tmp_path: Path):
    """`load` may return the same model each time; its twin has weights so large that its outputs are not finite."""
    torch.manual_seed(0)
    only = nn.Sequential(nn.Flatten(), nn.Linear(144, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)).eval()
    before = {name: value.clone() for name, value in only.state_dict().items()}
    subject = thalweg.Subject("only", lambda: only, (thalweg.Layer("2", nonlinearity=torch.relu),))

    def evaluate(model: nn.Module, stimuli: thalweg.Images, *, device: str) -> dict[str, float]:
        if not torch.equal(model[1].weight, before["1.weight"]):
            raise ThalwegError("not finite")
        return {"loss": 1.0, "bits": 1.0, "share": 0.5, "accuracy": 0.5}

    ladder = Ladder("own", (subject.rung(),), corners, evaluate=evaluate)
    found = run(ladder, tmp_path / "run", seeds=1, twins="rerandomised")
    assert all(torch.equal(value, before[name]) for name, value in only.state_dict().items())
    rows = {row["control"]: row for row in found.models.iter_rows(named=True)}
    assert rows["trained"]["bits"] == 1
    assert rows["rerandomised"]["strength_note"].startswith("the twin could not be evaluated")
    assert "estimated on 200 training stimuli" in rows["rerandomised"]["twin_note"]
    assert rows["rerandomised"]["predictable"] != rows["trained"]["predictable"]
