"""Edits of facts: the algebra against other ways to compute it, the model restored, what is read and refused."""

import json
import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import thalweg
from support import facts as world
from support.documents import planted
from support.examples import run_example
from support.letters import MODEL
from thalweg import ThalwegError
from thalweg.edits import updates
from thalweg.edits.evaluation import UNEDITED, ask, harmonic, measure_edits, scores, summarise
from thalweg.edits.facts import Fact, encode_facts, read_facts
from thalweg.edits.fluency import continuations, ngram_entropy
from thalweg.edits.methods import METHODS, EditSettings, Setup, changed, check_additive
from thalweg.edits.moments import cached_moments, second_moments
from thalweg.edits.projections import projection, projections, usual
from thalweg.edits.requests import Probe, Request, answer_nats
from thalweg.edits.values import ValueSettings, descend, find_deltas, keys_and_values
from thalweg.models.hooks import capture_activations
from thalweg.models.records import Layer
from thalweg.networks.language import Transformer
from thalweg.pipeline import edit as pipeline_edit
from thalweg.stimuli.windows import Vocabulary, Windows

REQUESTS = [world.request(subject) for subject in (0, 1, 2)]
PROMPT = torch.tensor([[0, world.FIRST_RELATION]] * 2)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def world_windows() -> Windows:
    rows = world.sentences()
    zeros = torch.zeros(len(rows), dtype=torch.long)
    vocabulary = Vocabulary(tuple(b"%d " % n for n in range(world.VOCABULARY)), torch.ones(world.VOCABULARY).long(),
                            torch.ones(1, world.VOCABULARY))  # fmt: skip
    return Windows(rows[:, :2], rows[:, 2], torch.arange(len(rows)), zeros, ("facts",), vocabulary)


@pytest.fixture(scope="module")
def setup() -> Setup:
    """A model that knows its facts, edited in its last block at the last token."""
    model = world.knowing()
    last = projections(model, PROMPT)[-1]
    moments = second_moments(model, last, world_windows(), tokens=1000)
    settings = EditSettings(site="last", ridge=0.01, old_keys=0.05, reach=2.0)
    return Setup(model, (last,), {last.name: moments}, settings)


# The algebra


def test_an_edit_of_an_associative_memory_changes_exactly_its_key():
    keys, values = random(6, 6), random(6, 4, seed=1)
    memory = torch.linalg.solve(keys, values).T  # W k = v for each key
    moments = keys.T @ keys / 6
    edited = memory + updates.rome(moments, keys[2], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    asked = values.clone()
    asked[2] += torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert torch.allclose(keys @ edited.T, asked, atol=1e-9)


def test_romes_update_is_the_solution_of_the_constrained_least_squares():
    """Lagrange's equations of min |D K|^2 with D k = delta, solved as they stand, row by row of D."""
    old, key, delta = random(20, 5), random(5, seed=1), random(3, seed=2)
    system = np.zeros((6, 6))
    system[:5, :5] = 2 * (old.T @ old).numpy()
    system[:5, 5] = system[5, :5] = key.numpy()
    solved = np.stack([np.linalg.solve(system, np.append(np.zeros(5), number))[:5] for number in delta.tolist()])
    assert np.allclose(updates.rome(old.T @ old / 20, key, delta), solved)


def test_memit_minimises_what_it_says():
    old, keys, deltas = random(30, 5), random(2, 5, seed=1), random(2, 3, seed=2)
    moments = old.T @ old / 30
    change = updates.memit(moments, keys, deltas, weight=0.7).requires_grad_()
    loss = 0.7 * torch.trace(change @ moments @ change.T) + (change @ keys.T - deltas.T).square().sum()
    loss.backward()
    assert change.grad is not None
    assert change.grad.abs().max() < 1e-9


def test_memit_of_one_fact_is_romes_update_scaled():
    moments = (lambda old: old.T @ old / 30)(random(30, 5))
    key, delta = random(5, seed=1), random(3, seed=2)
    rome = updates.rome(moments, key, delta)
    fit = float(key @ torch.linalg.solve(moments, key))
    for weight in (10.0, 1.0):
        change = updates.memit(moments, key[None], delta[None], weight)
        assert torch.allclose(change, rome * fit / (weight + fit))
    assert torch.allclose(updates.memit(moments, key[None], delta[None], 1e-9), rome, atol=1e-7)


def test_singular_and_infinite_second_moments_are_refused():
    singular = torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    with pytest.raises(ThalwegError, match=r"singular: 2 of 3 directions occur in the text; give more text"):
        updates.rome(singular, torch.ones(3), torch.ones(2))
    assert updates.rome(updates.with_ridge(singular, 0.01), torch.ones(3), torch.ones(2)).isfinite().all()
    with pytest.raises(ThalwegError, match="not finite"):
        updates.check_moments(torch.full((2, 2), math.inf))
    with pytest.raises(ThalwegError, match="key of a fact is zero"):
        updates.rome(torch.eye(2), torch.zeros(2), torch.ones(1))


# Keys, deltas and edited models


def test_second_moments_are_those_of_all_keys_and_are_kept(setup: Setup, tmp_path: Path):
    windows = world_windows()
    layer = Layer(f"{setup.last.name}:in", unit_axis=2)
    with torch.no_grad(), capture_activations(setup.model, [layer]) as kept:
        setup.model(windows.tokens)
        keys = kept[layer.name].flatten(0, 1).double()
    moments = second_moments(setup.model, setup.last, windows, tokens=10_000)
    assert torch.allclose(moments.matrix, keys.T @ keys / len(keys))
    assert moments.tokens == windows.tokens.numel()
    first = cached_moments(tmp_path, setup.model, setup.last, windows, tokens=20, weights="a")
    assert first.tokens == 20
    again = cached_moments(tmp_path, nn.Identity(), setup.last, windows, tokens=20, weights="a")  # no model is run
    assert torch.equal(again.matrix, first.matrix)
    assert again.tokens == 20
    (file,) = (tmp_path / "second-moments").iterdir()
    file.write_bytes(b"cut")
    assert torch.equal(
        cached_moments(tmp_path, setup.model, setup.last, windows, tokens=20, weights="a").matrix, first.matrix
    )


def test_keys_that_are_not_finite_are_refused():
    model = Transformer(world.VOCABULARY, 4, 8, neurons=16)
    with torch.no_grad():
        model.blocks[0].neurons.bias[0] = math.inf
    with pytest.raises(ThalwegError, match="NaN or infinite"):
        second_moments(model, projections(model, PROMPT)[0], world_windows(), tokens=10)


def test_an_edit_that_asks_for_no_change_changes_nothing(setup: Setup):
    request = world.request(3)
    content = Request("known", request.prompt, 0, request.new, request.true)  # what the model says already
    ((_, edit),) = METHODS["rome"](setup, [content])
    before = setup.last.parameter.detach().clone()
    with edit:
        assert torch.equal(setup.last.parameter, before)


def test_the_edited_key_has_the_new_value(setup: Setup):
    """With an edit at one key, the projection gives there what it gave, and the delta."""
    (request, *_) = REQUESTS
    keys, values = keys_and_values(setup.model, setup.last, [request], site="last")
    deltas = find_deltas(setup.model, setup.last, [request], ValueSettings(), site="last")
    with next(METHODS["rome"](setup, [request]))[1]:
        key_after, value_after = keys_and_values(setup.model, setup.last, [request], site="last")
    assert torch.allclose(key_after, keys)
    assert torch.allclose(value_after - values, deltas, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_edits_and_the_model_is_what_it_was_bit_by_bit(setup: Setup, name: str):
    before = {key: value.clone() for key, value in setup.model.state_dict().items()}
    learning = [weight.requires_grad for weight in setup.model.parameters()]
    plain = ask(setup.model, REQUESTS)
    for edited, context in METHODS[name](setup, REQUESTS):
        with suppress(RuntimeError), context:
            for request, answered in zip(edited, ask(setup.model, edited), strict=True):
                old = plain[REQUESTS.index(request)]
                assert answered["efficacy_margin"] > old["efficacy_margin"] + 0.3
            raise RuntimeError("in the middle of an edit")
    after = setup.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert [weight.requires_grad for weight in setup.model.parameters()] == learning


def test_facts_are_descended_apart_and_within_their_length():
    """Each fact's delta is what it is alone: of a quadratic loss, which is least at its goal."""
    values, goals = random(3, 4).float() + 5, random(3, 4, seed=1).float()
    settings = ValueSettings(steps=60, rate=0.02, decay=0.0, enough=1e-6)

    def loss(chosen: list[int]):
        return lambda deltas: ((deltas - goals[chosen]).square().sum(1), torch.zeros(len(chosen)))

    together = descend(loss([0, 1, 2]), values, settings)
    alone = torch.cat([descend(loss([fact]), values[[fact]], settings) for fact in range(3)])
    assert torch.allclose(together, alone)
    assert (together - goals).norm(dim=1).max() < 0.1
    short = descend(loss([0, 1, 2]), values, ValueSettings(steps=60, rate=0.2, decay=0.0, largest=0.01))
    assert torch.allclose(short.norm(dim=1), 0.01 * values.norm(dim=1), rtol=1e-3)


def test_memit_over_blocks_brings_the_stream_to_its_goal(setup: Setup):
    """Shared out over two blocks and with old keys that do not count, the last block's stream gets the whole delta."""
    both = projections(setup.model, PROMPT)
    moments = {each.name: second_moments(setup.model, each, world_windows(), tokens=1000) for each in both}
    settings = EditSettings(site="last", ridge=0.01, old_keys=1e-7)
    spread = Setup(setup.model, both, moments, settings)
    (request, *_) = REQUESTS
    layer = Layer(both[-1].block, unit_axis=2)

    def stream() -> torch.Tensor:
        with torch.no_grad(), capture_activations(setup.model, [layer]) as kept:
            setup.model(torch.tensor([request.prompt]))
            return kept[layer.name][0, -1].clone()

    before = stream()
    delta = find_deltas(setup.model, both[-1], [request], settings.values, site="last")[0]
    ((_, edit),) = METHODS["memit"](spread, [request])
    with edit:
        assert torch.allclose(stream() - before, delta, atol=0.02 * float(delta.norm()))


# Layers


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=8, n_layer=3, n_head=2)).eval()


class Logits(nn.Module):
    """A published model that gives logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model(tokens).logits


def test_a_transposed_projection_is_edited_as_others_are():
    model = Logits(gpt2())
    there = projections(model, PROMPT)
    assert [each.name for each in there] == [f"model.transformer.h.{n}.mlp.c_proj" for n in range(3)]
    second = projection(model, "1", PROMPT)
    assert second.transposed
    assert second.weight.shape == (8, 32)
    request = Request("a", (1, 2, 3), 1, (4,), (5,))
    keys, values = keys_and_values(model, second, [request], site="subject")
    change = updates.rome(torch.eye(32), keys[0], torch.ones(8))
    with changed({second: change}):
        assert torch.allclose(keys_and_values(model, second, [request], site="subject")[1], values + 1, atol=1e-4)
    assert usual(there, last_token=True).number == 2
    assert usual(there, last_token=False).number == 1


def test_blocks_that_normalise_what_they_add_are_edited_in_one_layer_alone():
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    small = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    torch.manual_seed(0)
    model = Logits(Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=40, **small, **heads)).eval())
    last = projections(model, PROMPT)[-1]
    with pytest.raises(ThalwegError, match="normalised before it is added"):
        check_additive(model, last, (1, 2, 3))
    check_additive(world.knowing(), projections(world.knowing(), PROMPT)[-1], (1, 2))


class Twice(nn.Module):
    """Blocks with tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Transformer(40, 8, 8, blocks=1, neurons=16)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        (block,) = self.inner.blocks
        return block(block(self.inner.tokens(tokens))) @ self.inner.tokens.weight.T


def tied() -> nn.Module:
    model = Transformer(40, 8, 8, blocks=2, neurons=16)
    model.blocks[1].after_neurons.weight = model.blocks[0].after_neurons.weight
    return model


def test_layers_found_by_their_shape():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.wide, self.narrow = nn.Linear(8, 8), nn.Linear(8, 20), nn.Linear(20, 8)

        def forward(self, stream: torch.Tensor) -> torch.Tensor:
            return stream + self.narrow(self.wide(self.attention(stream)).relu())

    model = nn.Sequential(nn.Embedding(40, 8), nn.Sequential(Block(), Block(), Block()), nn.Linear(8, 40))
    assert [each.name for each in projections(model, PROMPT)] == ["1.0.narrow", "1.1.narrow", "1.2.narrow"]


@pytest.mark.parametrize(
    ("make", "layer", "message"),
    [
        (lambda: Transformer(40, 8, 8, blocks=2), "", "can be edited: block blocks.0 has no perceptron"),
        (lambda: Transformer(40, 8, 8, blocks=2), "1", "block blocks.1 has no multilayer perceptron"),
        (lambda: Transformer(40, 8, 8, neurons=16), "7", "--layer 7: the model has 1 blocks, counted from 0"),
        (lambda: Transformer(40, 8, 8, neurons=16), "block.0", "no layer of the model is called 'block.0'; did you"),
        (lambda: Transformer(40, 8, 8, neurons=16), "blocks.0.after_attention", "is the projection of attention"),
        (lambda: Transformer(40, 8, 8, neurons=16), "before_logits", r"is no linear map \(LayerNorm\)"),
        (Twice, "", r"ran 2 times in one pass \(tied blocks\?\)"),
        (tied, "0", "shares its weights with 'blocks.1.after_neurons'"),
        (lambda: nn.Embedding(40, 8), "", "it has no list of blocks"),
    ],
)
def test_what_cannot_be_edited_is_refused(make, layer: str, message: str):
    with pytest.raises(ThalwegError, match=message):
        projection(make(), layer, PROMPT) if layer else projections(make(), PROMPT)


# What is measured


def test_answers_are_weighed_as_if_each_were_run_alone(setup: Setup):
    prompts, answers = [(0,), (1, 2, 3), (4, 5), (1, 2, 3)], [(6, 7), (8,), (9, 10), (11,)]
    nats = answer_nats(setup.model, prompts, answers)
    for prompt, answer, value in zip(prompts, answers, nats.tolist(), strict=True):
        with torch.no_grad():
            logits = setup.model(torch.tensor([[*prompt, *answer]]))[0].log_softmax(1)
        alone = [-float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(answer)]
        assert value == pytest.approx(sum(alone) / len(alone), abs=1e-5)


def test_questions_ask_for_the_right_answer(setup: Setup):
    request = REQUESTS[0]
    (answered,) = ask(setup.model, [request])
    nats = answer_nats(setup.model, [request.prompt] * 2, [request.true, request.new]).neg().exp()
    assert answered["efficacy"] == 0
    assert answered["efficacy_margin"] == pytest.approx(float(nats[1] - nats[0]))
    assert answered["neighbourhood"] == 1
    assert answered["neighbourhood_margin"] > 0.5


def test_a_wanted_answer_beats_all_candidates(setup: Setup):
    request = REQUESTS[0]
    others = tuple(range(world.FIRST_OBJECT, world.FIRST_OBJECT + world.OBJECTS))
    probe = Probe((request.prompt, request.prompt), request.new, request.true, "true")  # not what the model says
    assert ask(setup.model, [Request("a", request.prompt, 0, request.true, request.new, {"x": probe})])[0]["x"] == 0
    nats = answer_nats(setup.model, [request.prompt] * len(others), [(token,) for token in others]).tolist()
    for rank, index in enumerate(sorted(range(len(others)), key=nats.__getitem__)):
        last = (others[sorted(range(len(others)), key=nats.__getitem__)[-1]],)
        asked = Probe((request.prompt,), last, (others[index],), "new", others)
        answered = ask(setup.model, [Request("a", request.prompt, 0, request.true, request.new, {"x": asked})])[0]
        assert answered["x"] == (rank == 0)
        if rank == len(others) - 2:
            break


def test_scores_are_harmonic_means():
    assert harmonic([1.0, 0.5, 0.25]) == pytest.approx(3 / 7)
    assert harmonic([1.0, 0.0, 1.0]) == 0
    parts = {"efficacy": 1.0, "paraphrase": 0.5, "neighbourhood_prepended": 0.25}
    assert scores(parts) == {"score_prepended": pytest.approx(3 / 7)}


def test_a_table_of_edits_has_means_over_facts(setup: Setup):
    facts = measure_edits(
        setup, "rome", REQUESTS, held_out=lambda model: float(setup.last.parameter.detach().abs().sum())
    )
    rows = summarise(facts, "a layer")
    value = {row["measure"]: row for row in rows.iter_rows(named=True)}
    mine = facts.filter(measure="efficacy_margin")["value"]
    assert value["efficacy_margin"]["value"] == pytest.approx(mine.mean())
    assert value["efficacy_margin"]["low"] <= mine.mean() <= value["efficacy_margin"]["high"]
    assert value["efficacy"]["n"] == 3
    assert set(rows["method"]) == {"rome"}
    assert facts.filter(measure="drift")["value"].abs().min() > 0
    before = measure_edits(setup, UNEDITED, REQUESTS, held_out=lambda _: 1.0)
    assert before.filter(measure="drift")["value"].to_list() == [0, 0, 0]
    means = [value[name]["value"] for name in ("efficacy", "paraphrase", "neighbourhood")]
    assert value["score"]["value"] == pytest.approx(harmonic(means))


def test_the_entropy_of_ngrams():
    assert ngram_entropy((1, 1, 1, 1)) == 0
    assert ngram_entropy((1, 2, 1, 2, 1)) == pytest.approx((2 / 3 * 1 + 4 / 3 * 0.9183) / 2, abs=1e-4)
    assert math.isnan(ngram_entropy((1, 2)))


def test_continuations_are_drawn_from_the_likeliest(setup: Setup):
    prompts = [(0,), (1, world.FIRST_RELATION)]
    first, second = continuations(setup.model, prompts, 2, seed=1)
    assert continuations(setup.model, prompts, 2, seed=1) == [first, second]
    with torch.no_grad():
        best = setup.model(torch.tensor([prompts[1]]))[0, -1].topk(5).indices.tolist()
    assert second[0] in best


# Facts in files


def record(**changes: object) -> dict[str, object]:
    rewrite = {
        "prompt": "The tree of {} is the",
        "subject": "Ada",
        "target_true": {"str": "oak"},
        "target_new": {"str": "elm"},
        **changes,
    }
    return {
        "case_id": changes.get("case_id", 0),
        "requested_rewrite": rewrite,
        "paraphrase_prompts": ["Ada's tree is the"],
        "neighborhood_prompts": ["The tree of Bob is the", "The tree of Cy is the"],
        "attribute_prompts": ["not needed"],
    }


def written(path: Path, *records: object) -> Path:
    path.write_text(json.dumps(records))
    return path


def test_counterfacts_layout_is_read(tmp_path: Path):
    path = written(tmp_path / "facts.json", record(), record(case_id=7, prompt="Ada lives in"))
    first, second = read_facts(path)
    assert first == Fact("0", "Ada", "The tree of Ada is the", "oak", "elm", ("Ada's tree is the",),
                         ("The tree of Bob is the", "The tree of Cy is the"))  # fmt: skip
    assert second.prompt == "Ada lives in"
    assert second.name == "7"
    assert read_facts(path, limit=1) == (first,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "holds dict; an array of records in CounterFact's layout"),
        ("[]", "holds an empty array"),
        ("[1]", "record 1: 'requested_rewrite' is missing"),
        ("[", "can't be read as JSON"),
        (json.dumps([record(subject="Eve", prompt="Ada is")]), "subject 'Eve' is not in its prompt 'Ada is'; put {}"),
        (json.dumps([record(target_new={"str": " "})]), "record 1: an answer is empty"),
        (
            json.dumps([record(subject="A\ud800", prompt="{} is")]),
            r"record 1: 'subject' has half a character, '\\ud800'",
        ),
        (
            json.dumps([record() | {"paraphrase_prompts": ["\udc00"]}]),
            "record 1: 'paraphrase_prompts' has half a character",
        ),
        (json.dumps([record(target_new="elm")]), "'target_new' is missing or not an object"),
        (json.dumps([record(), record(case_id=1)]), "facts '0' and '1' are about the same prompt"),
        (json.dumps([record(), record(subject="Bob")]), "two records have the same case_id"),
    ],
)
def test_facts_in_another_layout_are_refused(tmp_path: Path, content: str, message: str):
    (tmp_path / "facts.json").write_text(content)
    with pytest.raises(ThalwegError, match=message):
        read_facts(tmp_path / "facts.json")


SUBJECT = (
    MODEL
    + """layers = (thalweg.Layer("blocks.0.residual", "last", unit_axis=2),)
subject = thalweg.Subject("mine", load, layers, modality="text", weights="seed 0", tokenizer=tokenizer)
"""
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of letters, two facts and some text."""
    (tmp_path / "mine.py").write_text(SUBJECT)
    written(tmp_path / "facts.json", record(), record(case_id=1, subject="Bob"), record(case_id=2, subject="Cy",
            target_new={"str": "beech"}))  # fmt: skip
    lines = [json.dumps({"text": document.text}) for document in planted(12, words=220)]
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_facts_become_tokens_or_are_left_out(folder: Path):
    tokenizer = thalweg.subjects.find("mine.py:subject").tokenizer
    assert tokenizer is not None
    encoded = encode_facts(read_facts(Path("facts.json")), tokenizer())
    first = encoded.requests[0]
    assert len(first.prompt) == len("The tree of Ada is the")
    assert first.subject_end == len("The tree of Ada") - 1
    assert len(first.new) == len(" elm")
    assert len(first.probes["neighbourhood_prepended"].prompts[0]) == len(
        "The tree of Ada is the elm. The tree of Bob is the"
    )
    assert encoded.left_out == {"2": "its answers have different numbers of tokens, 'oak' 4 and 'beech' 6"}
    same = Fact("a", "Ada", "Ada is", "oak", "oak")
    with pytest.raises(ThalwegError, match="all 1 facts are left out; fact 'a': its answers are the same, 'oak'"):
        encode_facts([same], tokenizer())


def edited_until(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edit by three methods, and be interrupted at one of them."""

    def interrupted(setup: Setup, name: str, *arguments: object, **options: object) -> pl.DataFrame:
        if name == method:
            raise KeyboardInterrupt
        return measure_edits(setup, name, *arguments, **options)

    methods = ("rome", "fine-tune-matched", "steer")
    options = {"text": "text.jsonl", "ridge": 0.01, "continued": 0, "out": "edits", "cache": "cache"}
    with monkeypatch.context() as patch:
        patch.setattr(pipeline_edit, "measure_edits", interrupted)
        thalweg.edit("mine.py:subject", "facts.json", method=methods, **options)


def test_the_command_edits_and_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    run_example(thalweg.edit)
    (folder / "edits/parts/rome.parquet").unlink()
    kept = (folder / "edits/parts/unedited.parquet").stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):
        edited_until("steer", monkeypatch)
    there = pl.read_parquet(folder / "edits/edits.parquet")
    assert there["method"].unique(maintain_order=True).to_list() == ["unedited", "rome"]
    assert set(pl.read_parquet(folder / "edits/facts.parquet")["method"]) == {"unedited", "rome"}
    options = ["--text", "text.jsonl", "--ridge", ".01", "--continued", "0", "--cache", "cache", "--out", "edits"]
    words = ["thalweg", "edit", "mine.py:subject", "--facts", "facts.json", "--method", "rome"]
    words += ["--method", "fine-tune-matched", "--method", "steer"]
    monkeypatch.setattr("sys.argv", [*words, *options])
    with pytest.raises(SystemExit) as end:
        thalweg.cli.main()
    shown = capsys.readouterr()
    assert end.value.code == 0, shown.err
    assert "blocks.1.after_neurons, at the prompt's last token" in shown.out
    assert "2 facts, and 1 left out" in shown.out
    assert (folder / "edits/parts/unedited.parquet").stat().st_mtime_ns == kept
    rows = pl.read_parquet(folder / "edits/edits.parquet")
    assert rows.columns == [
        "ladder", "rung", "seed", "control", "layer", "method", "measure", "value", "low", "high", "n", "note"
    ]  # fmt: skip
    assert rows["method"].unique(maintain_order=True).to_list() == ["unedited", "rome", "steer", "fine-tune-matched"]
    assert rows.filter(pl.col("method").is_in(["unedited", "rome"])).equals(there)
    page = (folder / "edits/edits.html").read_text()
    assert "its answers have different numbers of tokens" in page
    assert "harmonic mean of efficacy, paraphrase and neighbourhood" in page
    monkeypatch.setattr("sys.argv", [*words, *options, "--tokens", "300"])
    with pytest.raises(SystemExit):
        thalweg.cli.main()
    assert "made with other settings (tokens)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "roam"}, "no method of editing is called 'roam'; did you mean 'rome'"),
        ({"method": "fine-tune-matched"}, "compares at the specificity of rome, which was not asked for; add --method"),
        ({"site": "middle"}, "no site is called 'middle'"),
        ({"tokens": 0}, "tokens is 0"),
        ({"ridge": -1}, "ridge is -1"),
        ({"layer": (0, 1)}, "2 layers are for memit alone; rome edits one"),
        ({"layer": (0, "blocks.0"), "method": "memit"}, "two --layer name the same layer"),
        (
            {"continued": 10**9},
            r"1,000,000,000 tokens behind each of 2 prompts \(--continued\) need about .* GB of memory",
        ),
        ({"continued": 100}, "the model, on prompts of 1"),
        ({"ridge": 0.0, "tokens": 24}, r"second moments of layer 'blocks.1.after_neurons' \(over 24 tokens\) are sing"),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, options: dict[str, object], message: str):
    with pytest.raises(ThalwegError, match=message):
        thalweg.edit(
            "mine.py:subject", "facts.json", **{"text": "text.jsonl", "continued": 0, "cache": "cache", **options}
        )


def test_a_prompt_longer_than_the_model_reads_is_named(folder: Path):
    written(folder / "facts.json", record(prompt="The tree " + "of {} " + "very " * 20))
    with pytest.raises(ThalwegError, match="the model, on prompts of 1"):
        thalweg.edit("mine.py:subject", "facts.json", text="text.jsonl", ridge=0.01, continued=0, cache="cache")


@pytest.mark.parametrize("thing", [updates.rome, updates.memit, changed], ids=lambda thing: thing.__name__)
def test_examples_run(thing):
    run_example(thing)


def test_a_probe_and_a_request_are_checked():
    with pytest.raises(ThalwegError, match="its subject is not in its prompt"):
        Request("a", (1, 2), 2, (3,), (4,))
    with pytest.raises(ThalwegError, match="an answer has no tokens"):
        Request("a", (1, 2), 0, (), (4,))
    assert Request("a", (1, 2), 0, (3,), (4,), {"paraphrase": Probe(((5,),), (3,), (4,))}).asked().keys() == {
        "efficacy",
        "paraphrase",
    }


def test_a_model_of_images_and_one_without_tokenizer_are_refused(folder: Path):
    images = thalweg.Subject("images", lambda: nn.Linear(1, 1), weights="w")
    with pytest.raises(ThalwegError, match="takes stimuli of modality 'image'; facts are edited in causal language"):
        thalweg.edit(images, "facts.json")
    bare = thalweg.Subject("bare", lambda: nn.Linear(1, 1), modality="text", weights="w")
    with pytest.raises(ThalwegError, match="has no tokenizer"):
        thalweg.edit(bare, "facts.json")
