"""Where the units of a causal language model are: residual stream, heads and neurons of each block."""

import warnings
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.models.records import Layer
from thalweg.packages import prepare_torchvision

HEADS = (  # the projection that writes heads' outputs to the residual stream
    "self_attn.o_proj",  # Llama, Gemma, Mistral, Qwen
    "attn.c_proj",  # GPT-2
    "attention.dense",  # GPT-NeoX
    "self_attention.dense",  # Falcon, BLOOM
    "self_attn.out_proj",  # OPT
    "self_attn.dense",  # Phi
    "attn.attention.out_proj",  # GPT-Neo
    "attn.out_proj",  # GPT-J
)
NEURONS = (
    "mlp.c_fc",
    "mlp.dense_h_to_4h",
    "mlp.fc1",
    "mlp.fc_in",
    "mlp.up_proj",
    "fc1",
)  # their sum, before the function
GATES = ("mlp.gate_proj", "mlp.gate_up_proj")  # where there is one, units are products
PRODUCTS = ("mlp.down_proj",)  # the projection that reads them
KINDS = {"heads": HEADS, "neurons": (*NEURONS, *PRODUCTS)}
ACTIVATIONS = ("activation_function", "hidden_act", "hidden_activation")  # how configurations name the function


@dataclass(frozen=True)
class Activation:
    """An activation function of transformers, by the name that a configuration has for it."""

    name: str

    def __call__(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """What the model passes on."""
        prepare_torchvision()
        from transformers.activations import ACT2FN

        result: Tensor = ACT2FN[self.name](values)
        return result


def layers(model: nn.Module, *, skip: int = 0) -> tuple[Layer, ...]:
    """The heads, the neurons and the residual stream of each block, values at the last token.

    `skip` is the number of places before the window. An architecture with unknown spellings gets the residual stream
    only, with a warning that says so.

    Raises:
        ThalwegError: the model has no list of as many blocks as its configuration says.
    """
    config: Any = model.config
    config = config.get_text_config()
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
    ]
    if not lists:
        raise ThalwegError(
            f"{type(model).__name__}: has no list of {config.num_hidden_layers} blocks, as its configuration says; "
            "name the layers in a subject of your own, FILE.py:NAME"
        )
    blocks = min(lists, key=lambda name: name.count("."))
    measured: list[Layer] = []
    for number, block in enumerate(model.get_submodule(blocks).children()):
        measured += in_block(
            f"{blocks}.{number}", {name for name, _ in block.named_modules()}, _activation(config), skip
        )
    if len(measured) < 3 * config.num_hidden_layers:
        warnings.warn(
            f"{type(model).__name__}: not all of its heads and neurons are where they are known to be, so "
            f"{len(measured)} layers of {config.num_hidden_layers} blocks are measured; name others in a subject of "
            "your own",
            stacklevel=2,
        )
    return tuple(measured)


def in_block(block: str, modules: set[str], activation: Activation | None, skip: int = 0) -> list[Layer]:
    """The layers of one block, from the names of the modules in it."""
    heads = next((f"{name}:in" for name in HEADS if name in modules), None)
    if modules.intersection(GATES):
        neurons, function = next((f"{name}:in" for name in PRODUCTS if name in modules), None), None
    else:
        neurons, function = next((name for name in NEURONS if name in modules), None), activation
    return [
        *([Layer(f"{block}.{heads}", "last", unit_axis=2, skip=skip)] if heads else []),
        *([Layer(f"{block}.{neurons}", "last", function, unit_axis=2, skip=skip)] if neurons else []),
        Layer(block, "last", unit_axis=2, skip=skip),
    ]


def kind_of(layer: str, model: nn.Module) -> str:
    """What the units of a layer that a language model names are, by the spelling of its name; of another module, what
    that is.
    """
    name, _, side = layer.partition(":")
    spelt = [
        kind for kind, spellings in KINDS.items() if name.endswith(tuple(f".{spelling}" for spelling in spellings))
    ]
    if spelt:
        return spelt[0]
    if not side and name.rpartition(".")[2].isdigit():
        return "residual"
    return type(model.get_submodule(name)).__name__.lower() + (" input" if side else "")


def _activation(config: Any) -> Activation | None:
    """The function that comes after the neurons."""
    activation = next(
        (getattr(config, name) for name in ACTIVATIONS if isinstance(getattr(config, name, None), str)), None
    )
    return Activation(activation) if activation else None
