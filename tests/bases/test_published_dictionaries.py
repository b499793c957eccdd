"""Dictionaries by name: releases of SAELens and repositories of the hub, on caches laid out as the clients lay them."""

import json
import pickle
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from support.caches import repository
from thalweg import ThalwegError, bases, ladders
from thalweg.bases.hook_points import module_of
from thalweg.bases.sources import sources_of
from thalweg.downloads.missing import Missing
from thalweg.models.records import Layer
from thalweg.packages import prepare_torchvision
from thalweg.stimuli.windows import Vocabulary, Windows

WIDTH, LATENTS = 8, 20
SCOPE = "gemma-scope-2-270m-pt-res/layer_5_width_16k_l0_medium"
VALUES = 2 * torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(9))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, and no network."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the network was asked")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client's, between its tries
    return tmp_path / "hub"


def drawn(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def of_gemma_scope() -> dict[str, Tensor]:
    shapes = {"w_enc": (WIDTH, LATENTS), "w_dec": (LATENTS, WIDTH), "b_enc": (LATENTS,), "b_dec": (WIDTH,)}
    return {**drawn(**shapes), "threshold": torch.linspace(0, 2, LATENTS)}


def scope_in(hub: Path, **files: bytes) -> None:
    folder = "resid_post/layer_5_width_16k_l0_medium"
    known = {f"{folder}/params.safetensors": save(of_gemma_scope())}
    repository(hub, "google/gemma-scope-2-270m-pt", known | {f"{folder}/{name}": each for name, each in files.items()})


CONFIGURED = {
    "architecture": "jump_relu",
    "model_name": "gemma-v3-270m-pt",
    "hf_hook_point_in": "model.layers.5.output",
}


@pytest.mark.parametrize("config", [CONFIGURED, None], ids=["with its configuration", "without"])
def test_gemma_scope_2_is_read_by_saelenss_own_loader(hub: Path, config: Mapping | None):
    with pytest.raises(Missing, match=rf"{SCOPE}.*hf download google/gemma-scope-2-270m-pt --include 'resid_post"):
        bases.find(f"sae:{SCOPE}")
    scope_in(hub, **({"config.json": json.dumps(config).encode()} if config else {}))
    basis = pickle.loads(pickle.dumps(bases.find(f"sae-active:{SCOPE}")))
    made = of_gemma_scope()
    before = VALUES @ made["w_enc"] + made["b_enc"]
    expected = before.relu() * (before > made["threshold"])
    dictionary = basis.sources[0].read()
    torch.testing.assert_close(dictionary.activate(dictionary.encode(VALUES)), expected)
    torch.testing.assert_close(dictionary.reconstruct(VALUES), expected @ made["w_dec"] + made["b_dec"])
    assert module_of(dictionary.hook, ["model", "model.layers.5"]) == "model.layers.5"
    assert module_of(dictionary.hook, ["model.language_model.layers.5"]) == "model.language_model.layers.5"
    again = bases.find(f"sae-active:{SCOPE}").identity
    assert (basis.identity, bases.find(f"sae:{SCOPE}").identity == again) == (again, False)


def test_a_release_in_saelenss_own_layout_has_the_tables_scale(hub: Path):
    """Its activations were scaled to an average norm, and only SAELens's table says by what."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, sae = "gemma-2b-res-jb", "blocks.12.hook_resid_post"
    entry = get_pretrained_saes_directory()[release]
    factor = entry.norm_scaling_factor[sae]
    shapes = {"W_enc": (WIDTH, LATENTS), "W_dec": (LATENTS, WIDTH), "b_enc": (LATENTS,), "b_dec": (WIDTH,)}
    config = {
        "architecture": "standard", "d_in": WIDTH, "d_sae": LATENTS, "dtype": "float32", "activation_fn": "relu",
        "hook_name": "blocks.0.hook_mlp_out", "normalize_activations": "expected_average_only_in",
        "apply_b_dec_to_input": False, "finetuning_scaling_factor": False,
    }  # fmt: skip
    folder, made = entry.saes_map[sae], drawn(**shapes)
    files = {f"{folder}/cfg.json": json.dumps(config).encode(), f"{folder}/sae_weights.safetensors": save(made)}
    repository(hub, entry.repo_id, files)
    dictionary = sources_of(f"{release}/{sae}")[0].read()
    torch.testing.assert_close(dictionary.encode(VALUES), factor * VALUES @ made["W_enc"] + made["b_enc"])
    assert dictionary.hook == "blocks.0.hook_mlp_out"


def sparsify_files(*folders: str) -> dict[str, bytes]:
    shapes = {
        "encoder.weight": (LATENTS, WIDTH),
        "encoder.bias": (LATENTS,),
        "W_dec": (LATENTS, WIDTH),
        "b_dec": (WIDTH,),
    }
    config = json.dumps({"d_in": WIDTH, "num_latents": LATENTS, "k": 3}).encode()
    weights = save(drawn(**shapes))
    return {
        f"{each}/{name}": file
        for each in folders
        for name, file in (("cfg.json", config), ("sae.safetensors", weights))
    }


def test_sparsifys_dictionaries_are_one_folder_or_all_of_a_repository(hub: Path):
    with pytest.raises(
        Missing, match=r"owner/dictionaries/layers.1.mlp: there is no such folder.*hf download"
    ) as missing:
        bases.find("sae:owner/dictionaries/layers.1.mlp")
    chosen = missing.value.fetches[0].choose(["layers.1.mlp/cfg.json", "layers.2.mlp/cfg.json"])
    assert chosen == ["layers.1.mlp/cfg.json"]
    repository(hub, "owner/dictionaries", sparsify_files("layers.1.mlp", "layers.2.mlp"))
    made = drawn(**{"encoder.weight": (LATENTS, WIDTH), "encoder.bias": (LATENTS,)})
    basis = bases.find("sae:owner/dictionaries/layers.1.mlp")
    assert basis.sources[0].read().hook == "layers.1.mlp"
    assert torch.equal(basis.sources[0].read().bias, made["encoder.bias"])
    whole = bases.find("sae:owner/dictionaries")
    assert [source.called for source in whole.sources] == [
        "owner/dictionaries/layers.1.mlp",
        "owner/dictionaries/layers.2.mlp",
    ]
    assert whole.identity != basis.identity
    with pytest.raises(Missing, match=r"layers\.3\.mlp: there is no such folder"):
        bases.find("sae:owner/dictionaries/layers.3.mlp")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gemma-scope-2-270m-pt-res/layer_6", "no dictionary of SAELens's release 'gemma-scope-2-270m-pt-res'"),
        ("gemma-scope-2-270m-pt-res", "is called ''; there are: layer_12_width_16k_l0_big"),
        ("./owner/name", "there is no such folder"),
        ("plain", "there is no such folder"),
    ],
)
def test_wrong_names_of_dictionaries_are_told(hub: Path, name: str, message: str):
    with pytest.raises(ThalwegError, match=message):
        bases.find(f"sae:{name}")


def test_what_saelens_cannot_fetch_is_one_sentence(hub: Path):
    with pytest.raises(Missing) as missing:
        bases.find(f"sae:{SCOPE}")
    (fetch,) = missing.value.fetches
    assert fetch.what == f"dictionary {SCOPE} of SAELens"
    with pytest.raises(ThalwegError, match=f"dictionary {SCOPE} of SAELens: cannot be fetched"):
        fetch.fetch()


def test_places_that_gemma_scope_names():
    names = ["model", "model.layers.1", "model.layers.1.self_attn.o_proj", "model.layers.1.post_feedforward_layernorm"]
    assert module_of("model.layers.1.self_attn.o_proj.input", names) == "model.layers.1.self_attn.o_proj:in"
    name = "model.layers.1.post_feedforward_layernorm"
    assert module_of(f"{name}.output", names) == name
    with pytest.raises(ThalwegError, match="no place of this model"):
        module_of("model.layers.2.output", names)


def tiny_pythia() -> nn.Module:
    prepare_torchvision()
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": WIDTH, "intermediate_size": 8, "num_hidden_layers": 6, "num_attention_heads": 2}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=30, max_position_embeddings=16, **size)).eval()


def test_a_ladder_of_dictionaries_names_its_layers_and_all_that_is_missing(hub: Path):
    ladder = ladders.find("pythia-sparsify:70")
    rung = ladder.rungs[0]
    with pytest.raises(Missing, match=r"(?s)1 of 1 models.*pythia-70m-deduped@main.*layers.5.mlp") as missing:
        ladder.require(ladder.rungs)
    assert len({fetch.what for fetch in missing.value.fetches}) == 5  # the model and four dictionaries
    repository(hub, "EleutherAI/sae-pythia-70m-deduped-32k", sparsify_files(*(f"layers.{n}.mlp" for n in (2, 3, 4, 5))))
    with pytest.raises(Missing) as missing:
        ladder.require(ladder.rungs)
    assert [fetch.what for fetch in missing.value.fetches] == [
        "EleutherAI/pythia-70m-deduped@main of the Hugging Face hub"
    ]
    model = tiny_pythia()
    model.forward = lambda tokens, forward=model.forward: forward(input_ids=tokens).logits
    nothing, words = torch.zeros(6, dtype=torch.long), Vocabulary((b"x",) * 30, torch.ones(30).int(), torch.ones(1, 30))
    stimuli = Windows(torch.randint(30, (6, 5)).int(), nothing, nothing, nothing, ("any",), words)
    encoders = rung.basis.encoders(model, rung.layers, stimuli, torch.arange(6), device="cpu")
    assert list(encoders) == [f"gpt_neox.layers.{block}.mlp" for block in (2, 3, 4, 5)]
    assert encoders["gpt_neox.layers.2.mlp"](VALUES).shape == (4, LATENTS)


def test_gemma_3_is_named_as_transformers_spells_its_modules(hub: Path):
    """From four billion parameters on it has an image tower beside it."""
    prepare_torchvision()
    from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3TextConfig

    ladder = ladders.find("gemma-scope-2")
    assert [rung.name for rung in ladder.rungs] == ["gemma-3-270m", *(f"gemma-3-{n}b-pt" for n in (1, 4, 12, 27))]
    size = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    text = {**size, "vocab_size": 30, "num_hidden_layers": 30}
    with torch.device("meta"):
        small = AutoModelForCausalLM.from_config(Gemma3TextConfig(**text))
        large = AutoModelForCausalLM.from_config(Gemma3Config(text_config=text))
    for rung, model in ((ladder.rungs[0], small), (ladder.rungs[1], small), (ladder.rungs[2], large)):
        assert {layer.name for layer in rung.layers} <= {name for name, _ in model.named_modules()}
        assert rung.layers[0] == Layer(rung.layers[0].name, "last", unit_axis=2, max_units=64)
    named = [source.called for rung in ladder.rungs for source in rung.basis.sources]
    assert len(named) == len({sources_of(name)[0] for name in named}) == 20  # SAELens lists all of them
