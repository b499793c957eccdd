"""Pages of units of text: shades, logits, units that the same stimuli drive, answers to single trials."""

import re
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import thalweg
from thalweg.explore.logits import direct_logits, strongest
from thalweg.explore.showing import PIECES, StimulusFiles
from thalweg.explore.site import Site, site_of
from thalweg.explore.weights import Loaded, values_along
from thalweg.networks.language import BagOfWords, Transformer
from thalweg.runs.directory import RunDirectory
from thalweg.runs.explanations import EXPLANATIONS, add_explanations
from thalweg.stimuli.windows import Vocabulary
from thalweg.strength import language
from thalweg.subjects.checkpoints import import_transformers

WORDS = tuple(f"<{letter}>&" for letter in "abcdefghij")
LENGTH = 40  # longer than what a page shows at once


def splits(data: Path | None, seed: int) -> thalweg.Splits:
    generator = torch.Generator().manual_seed(seed)
    vocabulary = Vocabulary(
        tuple(word.encode() for word in WORDS), torch.arange(1, 11), torch.rand(2, 10, generator=generator)
    )

    def windows(count: int) -> thalweg.Windows:
        tokens = torch.randint(10, (count, LENGTH), generator=generator)
        kinds = torch.zeros(count, dtype=torch.long)
        return thalweg.Windows(tokens, tokens[:, 0], torch.arange(count), kinds, ("<i>letters</i>",), vocabulary)

    return thalweg.Splits(windows(60), windows(20), windows(240))


def nothing_learnt(model: nn.Module, splits: thalweg.Splits, seed: int) -> dict[str, float]:
    return {"train_loss": 1.0}


def ladder() -> thalweg.Ladder:
    def rung(width: int) -> thalweg.Rung:
        build = partial(Transformer, 10, LENGTH, width, n_heads=2, neurons=6)
        layers = [thalweg.Layer(f"blocks.0.{name}", "last", unit_axis=2) for name in ("neurons", "residual")]
        return thalweg.Rung(f"wide-{width}", "transformer", build, tuple(layers))

    given = {"modality": "text", "evaluate": language.evaluate, "controls": ("untrained",)}
    return thalweg.Ladder("letters", (rung(4), rung(8)), splits, nothing_learnt, **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> thalweg.Run:
    folder = tmp_path_factory.mktemp("letters")
    given = {
        "seeds": 1,
        "workers": 1,
        "resamples": 100,
        "cache": folder / "cache",
        "device": "cpu",
        "twins": "untrained",
    }
    thalweg.survey(ladder(), out=folder / "run", observer="suffix", **given)
    run = thalweg.open_run(folder / "run", ladder())
    run.answer(
        thalweg.TrialObserver("people", 1, lambda trial: thalweg.Choice(1 - trial.correct)), rung="wide-4", per_unit=6
    )
    return run


@pytest.fixture(scope="module")
def site(run: thalweg.Run) -> Site:
    return site_of(run, cache=run.path.parent / "cache")


def page(site: Site, rung: str, layer: str, unit: int, control: str = "trained") -> str:
    return site.content(f"units/letters/{rung}/0/{control}/{layer}/{unit}.html").decode()


def network_of(site: Site, rung: str):
    return next(each for each in site.catalogue.networks if (each.rung, each.control) == (rung, "trained"))


def test_shades_are_the_units_values_at_each_token(run: thalweg.Run, site: Site):
    network = network_of(site, "wide-8")
    loaded = site.pages.networks.load(network)
    found = dict(values_along(loaded, {"blocks.0.neurons": [2, 5], "blocks.0.residual": [1]}, [0, 7, 100]))
    along = {stimulus: layers["blocks.0.neurons"] for stimulus, layers in found.items()}
    halves = run.recordings("letters", "wide-8")["blocks.0.neurons"]
    for half in halves:
        for stimulus, values in along.items():
            sampled = half.sample_ids().tolist()
            if stimulus in sampled:
                last = half.sample[sampled.index(stimulus), [2, 5]]
                assert torch.allclose(values[:, -1], last, atol=1e-5)
    assert {tuple(each.shape) for each in along.values()} == {(2, LENGTH)}
    assert re.search(r'<b class="s[1-9]">&lt;[a-j]&gt;&amp;</b>', page(site, "wide-8", "blocks.0.neurons", 2))


def test_a_network_reads_each_text_once_for_all_pages(site: Site):
    network = network_of(site, "wide-8")
    read: list[tuple[int, ...]] = []
    module = site.pages.networks.load(network).module
    handle = module.register_forward_pre_hook(lambda _, given: read.extend(map(tuple, given[0].tolist())))
    together = dict(site.pages.render(network, {layer.name: layer.numbers.tolist() for layer in network.layers}))
    handle.remove()
    assert len(together) == network.count
    assert len(read) == len(set(read)) > 100
    differing = 0
    for address, html in together.items():
        alone = site.content(address).decode()
        assert re.sub(r"</?b[^>]*>", "", html) == re.sub(r"</?b[^>]*>", "", alone)
        shades = [re.findall(r'<b class="s(\d)">', each) for each in (html, alone)]
        assert set(shades[0]) > {"1", "9"}
        differing += sum((Counter(shades[0]) - Counter(shades[1])).values())
    assert differing <= 2  # a batch of another size moves a value's last digit, which may be that of a shade's limit


def test_a_long_text_is_cut_and_the_whole_window_is_loaded_on_demand(site: Site):
    text = page(site, "wide-8", "blocks.0.neurons", 2)
    button = re.search(r'data-stimulus="(\d+)" data-script="[./]*(texts/[\w/]+\.js)"', text)
    script = site.content(button[2]).decode()
    assert f'"{button[1]}":"' in script
    assert "<" not in script
    files = site.pages.stimuli["letters"]
    shades = [0.0] * LENGTH
    shades[3] = 1.0
    item = files.item(0, 0.5, shades)
    assert (item["before"], item["after"]) == (False, True)
    assert [level for _, level in item["pieces"] if level] == [9]
    plain = files.item(0, 0.5)
    assert (plain["before"], plain["after"]) == (True, False)
    shown = "".join(text for text, _ in plain["pieces"])
    assert shown == "".join(files.shown(0).pieces[-PIECES:])


def test_logits_are_what_the_unit_adds(site: Site):
    torch.manual_seed(0)
    bag = BagOfWords(10, 6)
    loaded = Loaded(bag, {}, None, {}, {})
    logits = direct_logits(loaded, "hidden", [1, 4])
    hidden = torch.rand(6)
    raised = hidden.clone()
    raised[4] += 1
    added = (bag.read_out(raised) - bag.read_out(hidden)).detach()
    assert torch.allclose(logits[1], added - added.mean(), atol=1e-6)
    promoted, suppressed = strongest(logits[1])
    assert promoted[0][0] == int(added.argmax())
    assert suppressed[0][0] == int(added.argmin())


@pytest.mark.parametrize("layer", ["blocks.1.neurons", "blocks.1.heads", "blocks.1.residual"])
def test_the_direct_path_passes_the_last_normalisation(layer: str):
    """At a stream whose normalisation is the identity there, the derivative of the logits is the direct path."""
    torch.manual_seed(1)
    model = Transformer(10, 4, 8, blocks=2, n_heads=2, neurons=6).double()
    nn.init.uniform_(model.before_logits.weight, 0.5, 2)
    logits = direct_logits(Loaded(model, {}, None, {}, {}), layer, [3])[0]
    behind = {"neurons": "after_neurons", "heads": "after_attention"}.get(layer.rpartition(".")[2])
    written = torch.eye(8)[3].double() if behind is None else getattr(model.blocks[1], behind).weight[:, 3]
    centred = written - written.mean()
    stream = torch.randn(8, dtype=torch.float64)
    stream -= stream.mean()
    stream -= (stream @ centred) / (centred @ centred) * centred
    stream = stream / stream.square().mean().sqrt()

    def read(amount: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(model.before_logits(stream + amount * written), model.tokens.weight)

    derivative = torch.autograd.functional.jacobian(read, torch.zeros((), dtype=torch.float64))
    assert torch.allclose(logits.double(), derivative - derivative.mean(), atol=1e-5)


def test_latents_write_by_their_decoder():
    torch.manual_seed(2)
    model = Transformer(10, 4, 8, blocks=1, n_heads=2, neurons=6)
    decoder = torch.randn(12, 6)
    loaded = Loaded(model, {}, None, {}, {"blocks.0.neurons": decoder})
    neurons = direct_logits(Loaded(model, {}, None, {}, {}), "blocks.0.neurons", list(range(6)))
    latents = direct_logits(loaded, "blocks.0.neurons", [7])
    assert torch.allclose(latents[0], decoder[7] @ neurons, atol=1e-5)


def of_gemma() -> nn.Module:
    transformers = import_transformers()
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
    config = transformers.Gemma3TextConfig(**sizes, num_attention_heads=2, num_key_value_heads=1)
    model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    for norm in (module for name, module in model.named_modules() if name.endswith("norm")):
        nn.init.uniform_(norm.weight, -0.5, 1)
    return model


@pytest.mark.parametrize("layer", ["mlp.down_proj", "self_attn.o_proj"])
def test_gemmas_normalisations_multiply_by_one_more_than_their_weights(layer: str):
    """The derivative of the logits, where both normalisations on the way divide by 1."""
    torch.manual_seed(3)
    model = of_gemma()
    last, norm = model.model.layers[1], model.model.norm
    after = last.post_feedforward_layernorm if layer.startswith("mlp") else last.post_attention_layernorm
    written = last.get_submodule(layer).weight[:, 5].detach()
    added = written * (1 + after.weight.detach())
    stream = torch.randn(16, dtype=torch.float64)
    stream -= (stream @ added) / (added @ added) * added
    stream = stream / stream.square().mean().sqrt()
    changed = [model.lm_head(norm((stream + amount * added)[None]))[0] for amount in (0.1, -0.1)]
    derivative = ((changed[0] - changed[1]) / 0.2).detach()
    logits = direct_logits(Loaded(model, {}, None, {}, {}), f"model.layers.1.{layer}:in", [5])[0].double()
    assert torch.allclose(logits, derivative - derivative.mean(), rtol=1e-3, atol=1e-5)


def test_a_path_that_is_not_known_has_no_logits():
    assert direct_logits(Loaded(nn.Sequential(nn.Linear(3, 3)), {}, None, {}, {}), "0", [0]) is None


def test_nearest_units_are_those_whose_values_correlate_most(run: thalweg.Run, site: Site):
    network, stronger = network_of(site, site.catalogue.networks[0].rung), None
    stronger = site.catalogue.stronger(network)
    found = site.pages.nearest.of(network, "blocks.0.neurons", [1])[0]
    assert [where for where, _ in found] == ["the same model", f"the next stronger rung, {stronger.name}"]

    def sampled(rung: str) -> dict[tuple[str, int], np.ndarray]:
        layers = run.recordings("letters", rung)
        return {
            (name, int(unit)): torch.cat([half.sample[:, place] for half in halves]).numpy()
            for name, halves in layers.items()
            for place, unit in enumerate(halves.reference.unit_ids)
        }

    mine = sampled(network.rung)["blocks.0.neurons", 1]
    for (_, near), rung in zip(found, (network.rung, stronger.rung), strict=True):
        every = {key: np.corrcoef(mine, values)[0, 1] for key, values in sampled(rung).items()}
        if rung == network.rung:
            del every["blocks.0.neurons", 1]
        best = sorted(every, key=every.get, reverse=True)[: len(near)]
        assert [(each.layer, each.unit) for each in near] == best
        assert near[0].correlation == pytest.approx(every[best[0]], abs=1e-4)
    assert site.catalogue.stronger(stronger) is None


def test_trials_that_people_got_wrong_are_shown(run: thalweg.Run, site: Site):
    answers = run.answers.filter(rung="wide-4", control="trained", layer="blocks.0.neurons")
    unit = int(answers["unit"][0])
    network = network_of(site, "wide-4")
    (people,) = site.pages.answers.of(network, "blocks.0.neurons", unit)
    own = answers.filter(unit=unit)
    assert (people.observer, people.wrong, people.asked) == ("people", len(own), len(own))
    assert {trial.id for trial in people.trials} <= set(own["trial"])
    assert len(people.trials) == min(4, len(own))
    text = page(site, "wide-4", "blocks.0.neurons", unit)
    assert f"one trial at a time: {len(own)} of {len(own)} wrong" in text
    assert "one trial at a time" not in page(site, "wide-8", "blocks.0.neurons", unit)


def test_an_explanation_of_the_run_is_text(run: thalweg.Run, site: Site):
    key = {
        "ladder": "letters",
        "rung": "wide-8",
        "seed": 0,
        "control": "trained",
        "layer": "blocks.0.neurons",
        "unit": 3,
    }
    said = {"explanation": "fires for <b>&amp;", "explainer": "<i>model</i>", "version": 1, "method": "tests"}
    add_explanations(RunDirectory(run.path), pl.DataFrame([key | said], schema=EXPLANATIONS))
    fresh = site_of(run, rung=["wide-8"], cache=run.path.parent / "cache")
    assert "fires for &lt;b&gt;&amp;amp;" in page(fresh, "wide-8", "blocks.0.neurons", 3)
    assert "fires for" not in page(fresh, "wide-8", "blocks.0.neurons", 2)
    assert fresh.catalogue.count < site.catalogue.count


def test_a_network_that_cannot_be_had_leaves_shades_and_logits_out(run: thalweg.Run, site: Site):
    weights = run.path / "weights"
    weights.rename(run.path / "elsewhere")
    try:
        text = page(site_of(run, cache=run.path.parent / "cache"), "wide-8", "blocks.0.neurons", 2)
    finally:
        (run.path / "elsewhere").rename(weights)
    assert "Texts are not shaded, and logits are not shown" in text
    assert "there is no such file" in text
    assert 'class="s9"' not in text


def test_a_users_own_modality_is_shown_in_frames_without_scripts():
    tone = thalweg.Modality(
        "tone",
        low_level=lambda tones: tones.values.std(1, keepdim=True),
        show=lambda tones, which, values: thalweg.Shown(
            f"tone <{which}>", html=f"<script>alert({which})</script><i>x</i>"
        ),
    )
    tones = thalweg.TensorStimuli(torch.rand(5, 3), torch.zeros(5, dtype=torch.long), ("a",), modality=tone)
    files = StimulusFiles("tones", tones)
    item = files.item(3, 0.25)
    assert item["kind"] == "frame"
    assert item["label"] == "tone <3>"
    assert files.find(item["address"]) == 3
    content = files.content(3).decode()
    assert content.startswith("<!doctype html><meta http-equiv=Content-Security-Policy")
    assert "default-src 'none'" in content
