"""Which tokens a unit of a language model promotes and suppresses, by the direct path.

A unit writes a vector w to the residual stream: a column of the projection behind it, a latent's row of the decoder,
or, in the stream itself, one of its axes. What reaches the logits without passing another layer is U (g * (w - mean
w)), with g the weights of the last normalisation and U the unembedding (as in the logit lens; nostalgebraist 2020).
Where a block normalises what its attention or its perceptron gives before it adds it to the stream (Gemma 2 and 3, OLMo
2), w has that normalisation's weights, too. Numbers are for a unit's value of 1, minus their mean over the vocabulary.
What later layers make of w is not in them, nor the sizes that normalisations divide by.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thalweg.edits.projections import OUTPUTS
from thalweg.explore.weights import Loaded
from thalweg.subjects.language_layers import HEADS, NEURONS

SHOWN = 8  # tokens a side
LAST_NORMS = ("before_logits", "ln_f", "norm", "final_layer_norm", "final_norm", "final_layernorm")
READ_OUTS = ("lm_head", "embed_out", "read_out")
AFTER_ATTENTION = ("post_self_attn_layernorm", "post_attention_layernorm")
AFTER_PERCEPTRON = ("post_feedforward_layernorm", "post_mlp_layernorm")  # a block without these has none after either
OWN = {
    "heads": "after_attention",
    "neurons": "after_neurons",
}  # what projects thalweg's own layers


def direct_logits(loaded: Loaded, layer: str, units: list[int]) -> Float[Tensor, "unit token"] | None:
    """What some units of a layer add to each token's logit; None where the path is not known."""
    module = loaded.module
    unembedding, normalised = _read_out(module)
    if unembedding is None:
        return None
    written = _written(loaded, layer, unembedding.shape[1])
    if written is None or written.shape[1] != unembedding.shape[1] or max(units) >= len(written):
        return None
    vectors = written[units].float()
    for norm in (_of_block(module, layer), normalised):
        vectors = vectors if norm is None else _passed(norm, vectors)
    logits = vectors @ unembedding.float().T
    return logits - logits.mean(1, keepdim=True)


def _passed(norm: nn.Module, vectors: Float[Tensor, "unit width"]) -> Float[Tensor, "unit width"]:
    """What a normalisation makes of a small vector beside a large one, but for the size that it divides by.

    Its weights are read off what it gives, as some multiply by `weight` and others (Gemma's) by 1 + `weight`.
    """
    probe = torch.ones(vectors.shape[1])
    probe[1::2] = -1
    probe -= probe.mean()
    probe /= probe.square().mean().sqrt()
    dtype = next((weight.dtype for weight in norm.parameters()), torch.float32)
    with torch.inference_mode():
        up, down, moved = (norm(given.to(dtype)[None])[0].float() for given in (probe, -probe, probe + 1))
    centres = torch.allclose(moved, up, rtol=1e-2, atol=1e-4)
    gains: Tensor = (up - down) / (2 * probe)
    return (vectors - vectors.mean(1, keepdim=True) if centres else vectors) * gains


def _of_block(module: nn.Module, layer: str) -> nn.Module | None:
    """The normalisation that what an attention or a perceptron gives passes inside its block, if there is one."""
    modules, parts = dict(module.named_modules()), layer.partition(":")[0].split(".")
    for end in range(1, len(parts)):
        names = {name: f"{'.'.join(parts[:end])}.{name}" for name in (*AFTER_ATTENTION, *AFTER_PERCEPTRON)}
        if "norm" not in parts[end] and any(names[name] in modules for name in AFTER_PERCEPTRON):
            own = AFTER_ATTENTION if "att" in parts[end] else AFTER_PERCEPTRON
            return next((modules[names[name]] for name in own if names[name] in modules), None)
    return None


def _read_out(module: nn.Module) -> tuple[Tensor | None, nn.Module | None]:
    """The unembedding (token, width), and the normalisation before it, if there is one."""
    modules = dict(module.named_modules())
    ends = {name.rpartition(".")[2]: name for name in modules}
    norm = next((modules[ends[name]] for name in LAST_NORMS if name in ends and "blocks" not in ends[name]), None)
    for name in READ_OUTS:
        if isinstance(found := modules.get(ends.get(name, "")), nn.Linear):
            return found.weight.detach(), norm
    tokens = getattr(module, "tokens", None)
    return (tokens.weight.detach(), norm) if isinstance(tokens, nn.Embedding) and norm is not None else (None, None)


def _written(loaded: Loaded, layer: str, width: int) -> Float[Tensor, "unit width"] | None:
    """What each unit of a layer writes to the residual stream."""
    into = _projection(loaded.module, layer, width)
    if layer in loaded.decoders:
        decoder = loaded.decoders[layer]
        return decoder if into is None else decoder @ into
    return torch.eye(width) if into is None else into


def _projection(module: nn.Module, layer: str, width: int) -> Float[Tensor, "neuron width"] | None:
    """The projection that takes a layer's neurons to the residual stream; None where they are that stream."""
    name, _, side = layer.partition(":")
    block, _, last = name.rpartition(".")
    modules = dict(module.named_modules())
    if side == "in" and name.endswith((*HEADS, *OUTPUTS)):
        return _matrix(modules[name], width)
    if last in OWN and f"{block}.{OWN[last]}" in modules:
        return _matrix(modules[f"{block}.{OWN[last]}"], width)
    for neurons in NEURONS:
        if name.endswith(neurons):
            stem = name.removesuffix(neurons)
            behind = next((modules[f"{stem}{each}"] for each in OUTPUTS if f"{stem}{each}" in modules), None)
            return None if behind is None else _matrix(behind, width)
    if last == "hidden" and isinstance(behind := modules.get("read_out"), nn.Linear):
        return torch.eye(behind.in_features)
    return None


def _matrix(module: Any, width: int) -> Float[Tensor, "neuron width"] | None:
    """A linear map's matrix as (neuron, width); GPT-2's Conv1D keeps it so."""
    weight: Tensor = module.weight.detach()
    transposed = weight.T if isinstance(module, nn.Linear) else weight
    return transposed if transposed.shape[1] == width else None


def strongest(logits: Float[Tensor, " token"]) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """The tokens that are promoted most, and those suppressed most, each with its number."""
    count = min(SHOWN, len(logits))
    sides = []
    for largest in (True, False):
        values, tokens = logits.topk(count, largest=largest)
        sides.append(list(zip(tokens.tolist(), values.tolist(), strict=True)))
    return sides[0], sides[1]
