"""The matrix that is edited: the output projection of a block's multilayer perceptron.

It is found where `layers` finds the perceptron's neurons: blocks are a list of modules, and what is in them is known by
the spellings of published architectures, or else by shape: the last linear map of a block that leads from more numbers
to fewer, as many as the residual stream has. GPT-2's Conv1D, which keeps its matrix transposed, counts as a linear map.
Refused are attention's projection, matrices that two modules share, modules that run more than once in a pass (blocks
with tied weights), and quantised weights.

Blocks whose attention and perceptron run side by side (GPT-J, GPT-NeoX) are edited like others: the projection is
still given a key and adds a value to the residual stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thalweg.errors import ThalwegError, unknown
from thalweg.models.hooks import first_tensor
from thalweg.models.tracing import Turn, traced
from thalweg.subjects.language_layers import HEADS

OUTPUTS = (
    "mlp.c_proj",  # GPT-2, GPT-Neo
    "mlp.dense_4h_to_h",  # GPT-NeoX, Falcon, BLOOM
    "mlp.down_proj",  # Llama, Gemma, Mistral, Qwen
    "mlp.fc2",  # Phi
    "mlp.fc_out",  # GPT-J
    "fc2",  # OPT
    "after_neurons",  # thalweg's own
)
OF_ATTENTION = (*HEADS, "after_attention")


@dataclass(frozen=True, eq=False)
class Projection:
    """The output projection of a block's perceptron.

    Attributes:
        name: The module's name.
        block: The name of its block; empty if it is in none.
        number: The block's place, counted from 0; -1 if it is in none.
        module: The module itself.
        transposed: Whether it keeps its weight as (key, value).
        offset: How many places the model puts before the tokens that it is given.
    """

    name: str
    block: str
    number: int
    module: nn.Module
    transposed: bool
    offset: int

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter that is edited."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def weight(self) -> Float[Tensor, "value key"]:
        """The matrix W, by which a key becomes a value W k; a view."""
        return self.parameter.T if self.transposed else self.parameter

    @torch.no_grad()
    def add(self, change: Float[Tensor, "value key"]) -> None:
        """Add to the matrix, in place."""
        self.weight.add_(change.to(self.weight))


def projections(model: nn.Module, tokens: Int[Tensor, "batch token"]) -> tuple[Projection, ...]:
    """The output projections of all blocks that have a perceptron, from the first block on.

    Args:
        model: A causal language model.
        tokens: A small batch that it is run on.

    Raises:
        ThalwegError: There is none that can be edited; says why.
    """
    turns = traced(model, tokens)
    modules = dict(model.named_modules())
    reasons: list[str] = []
    made: list[Projection] = []
    for number, block in enumerate(block_names(model)):
        name = _in_block(block, modules, turns)
        if not name:
            reasons.append(f"block {block} has no perceptron")
            continue
        try:
            made.append(_checked(name, block, number, model, turns, tokens.shape[1]))
        except ThalwegError as wrong:
            reasons.append(str(wrong))
    if not made:
        raise ThalwegError(
            f"no layer of {type(model).__name__} can be edited: {'; '.join(reasons[:3]) or 'it has no list of blocks'}"
        )
    return tuple(made)


def projection(model: nn.Module, layer: str, tokens: Int[Tensor, "batch token"]) -> Projection:
    """The projection that a user names: the number of a block, or a module.

    Raises:
        ThalwegError: there is no such layer, or it cannot be edited; says why.
    """
    turns = traced(model, tokens)
    modules = dict(model.named_modules())
    blocks = block_names(model)
    if layer.isdigit():
        if int(layer) >= len(blocks):
            raise ThalwegError(f"--layer {layer}: the model has {len(blocks)} blocks, counted from 0")
        block = blocks[int(layer)]
        if not (name := _in_block(block, modules, turns)):
            raise ThalwegError(f"--layer {layer}: block {block} has no multilayer perceptron; edit another layer")
        return _checked(name, block, int(layer), model, turns, tokens.shape[1])
    if layer not in modules or not layer:
        raise unknown("layer of the model", layer, (name for name in modules if name))
    inside = [number for number, block in enumerate(blocks) if layer.startswith(f"{block}.")]
    if layer in blocks:
        return projection(model, str(blocks.index(layer)), tokens)
    block, number = (blocks[inside[0]], inside[0]) if inside else ("", -1)
    return _checked(layer, block, number, model, turns, tokens.shape[1])


def usual(there: tuple[Projection, ...], *, last_token: bool) -> Projection:
    """The projection that is edited where the user names none.

    The last one where facts are edited at the prompt's last token, as nothing has to be carried there. Else that of the
    block at a third of the depth, which is where the published settings lie (17 of 48 blocks of GPT-2 XL, 8 of 24 of
    GPT-2 medium).
    """
    return there[-1] if last_token else there[len(there) // 3]


def block_names(model: nn.Module) -> list[str]:
    """The names of the model's blocks: the members of its longest list of modules, the outermost of equals."""
    lists = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList | nn.Sequential)
    }
    lists = {name: module for name, module in lists.items() if len(module) and any(True for _ in module[0].children())}
    if not lists:
        return []
    best = min(lists, key=lambda name: (-len(lists[name]), name.count(".")))
    return [f"{best}.{number}" if best else str(number) for number in range(len(lists[best]))]


def _in_block(block: str, modules: dict[str, nn.Module], turns: list[Turn]) -> str:
    """The name of a block's output projection, or nothing."""
    for spelling in OUTPUTS:
        if (name := f"{block}.{spelling}") in modules:
            return name
    width = next((turn.gave.shape[-1] for turn in turns if turn.name == block and turn.gave is not None), None)
    fitting = [
        turn.name
        for turn in turns
        if turn.name.startswith(f"{block}.") and _is_linear(turn.module) and not _is_of_attention(turn.name)
        and (shape := _shape(turn.module))[1] > shape[0] == width
    ]  # fmt: skip
    return fitting[-1] if fitting else ""


def _checked(name: str, block: str, number: int, model: nn.Module, turns: list[Turn], length: int) -> Projection:
    """The projection, if it can be edited.

    Raises:
        ThalwegError: it cannot; says why.
    """
    module: Any = model.get_submodule(name)
    if _is_of_attention(name):
        raise ThalwegError(f"layer {name!r} is the projection of attention, not of a multilayer perceptron")
    if "quantized" in type(module).__module__ or (
        isinstance(getattr(module, "weight", None), Tensor) and not module.weight.is_floating_point()
    ):
        raise ThalwegError(f"layer {name!r} has quantised weights ({type(module).__name__}), which cannot be edited")
    if not _is_linear(module):
        raise ThalwegError(
            f"layer {name!r} is no linear map ({type(module).__name__}); the output projection of a multilayer "
            "perceptron was expected"
        )
    ran = [turn for turn in turns if turn.module is module]
    if len(ran) != 1:
        raise ThalwegError(
            f"layer {name!r} ran {len(ran)} times in one pass (tied blocks?): an edit would act in several places"
        )
    sharing = sorted(_sharing(model, module.weight) - {name})
    if sharing:
        raise ThalwegError(f"layer {name!r} shares its weights with {sharing[0]!r}: an edit would act in both")
    given = ran[0].given
    if given is None or given.ndim != 3 or first_tensor(ran[0].gave) is None:
        raise ThalwegError(f"layer {name!r} is not given a tensor of shape (batch, token, neuron)")
    return Projection(name, block, number, module, not isinstance(module, nn.Linear), given.shape[1] - length)


def _sharing(model: nn.Module, weight: Tensor) -> set[str]:
    """The modules that hold this very parameter."""
    return set(_holders(model, weight))


def _holders(model: nn.Module, weight: Tensor) -> Iterator[str]:
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter is weight:
            yield name.rpartition(".")[0]


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _shape(module: nn.Module) -> tuple[int, int]:
    """How many numbers a linear map gives, and how many it is given."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    rows, columns = weight.shape
    return (rows, columns) if isinstance(module, nn.Linear) else (columns, rows)


def _is_of_attention(name: str) -> bool:
    return name.endswith(tuple(f".{spelling}" for spelling in OF_ATTENTION))
