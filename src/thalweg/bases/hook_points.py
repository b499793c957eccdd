"""Where a dictionary belongs: from the names that SAELens and sparsify use to a model's modules.

SAELens names TransformerLens's hook points (`blocks.5.hook_resid_post`), sparsify modules counted from the model's base
(`layers.5.mlp`), Gemma Scope 2 modules with what is read of them (`model.layers.5.output`). A hook point is the output
of a module or, with ":in" after its name, its input; which module that is depends on the family, so each kind of hook
has a few candidates, and the first that the model has counts. What is neither input nor output of a module (attention
scores, normalised streams) can't be had this way.
"""

import re
from collections.abc import Collection

from thalweg.errors import ThalwegError

# where the families of transformers, their bare bodies and our own models keep their blocks
BLOCKS = (
    "transformer.h",
    "gpt_neox.layers",
    "model.layers",
    "model.language_model.layers",
    "h",
    "layers",
    "blocks",
)
STREAM_HOOKS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
DOUBLY_NORMED = "pre_feedforward_layernorm"  # Gemma 2 and 3 normalise what attention and MLP give, too
WITHIN = {
    "hook_resid_pre": (":in",),
    "hook_resid_mid": (f"{DOUBLY_NORMED}:in", "ln_2:in", "post_attention_layernorm:in"),
    "hook_resid_post": ("",),
    "hook_attn_out": ("attn", "attention", "self_attn"),
    "hook_mlp_out": ("post_feedforward_layernorm", "mlp"),
    "attn.hook_z": ("attn.c_proj:in", "attention.dense:in", "self_attn.o_proj:in"),
    "mlp.hook_pre": ("mlp.c_fc", "mlp.dense_h_to_4h", "mlp.gate_proj"),
    "mlp.hook_post": ("mlp.c_proj:in", "mlp.dense_4h_to_h:in", "mlp.down_proj:in"),
}


def module_of(hook: str, modules: Collection[str]) -> str:
    """The layer of a model at a hook point or module of another library: a module's name, or with ":in" its input.

    Raises:
        ThalwegError: the model has no such place; its layers are listed.
    """
    layer = _same(hook, modules) or _within_block(hook, modules)
    if not layer:
        shown = [name for name in modules if name]
        more = f" and {len(shown) - 40} more" if len(shown) > 40 else ""
        raise ThalwegError(
            f"the dictionary was trained on {hook!r}, which is no place of this model that is known; name the layer "
            f"yourself with --layers; there are: {', '.join(shown[:40])}{more}"
        )
    return layer


def _same(hook: str, modules: Collection[str]) -> str:
    """A module of this very name, or the only one whose name ends in it."""
    name = hook if hook in modules else hook.removesuffix(":in")
    ending = [module for module in modules if module.endswith(f".{name}")]
    if name in modules and name:
        return hook
    return f"{ending[0]}{hook.removeprefix(name)}" if len(ending) == 1 else ""


def _within_block(hook: str, modules: Collection[str]) -> str:
    """A hook point or module inside a numbered block."""
    match = re.fullmatch(r"(?:model\.)?(?:blocks|layers|h)[._](\d+)(?:\.(.+))?", _side(hook))
    if not match:
        return ""
    block = next((f"{prefix}.{match[1]}" for prefix in BLOCKS if f"{prefix}.{match[1]}" in modules), "")
    inside = match[2] or "hook_resid_post"
    ways = WITHIN.get(inside, (inside,))
    if inside == "hook_attn_out" and f"{block}.{DOUBLY_NORMED}" in modules:
        ways = ("post_attention_layernorm",)
    if inside == "hook_resid_mid" and block.startswith("gpt_neox"):
        ways = ()  # attention and MLP read the same stream: there is no middle
    names = [f"{block}.{way}" if way and not way.startswith(":") else block + way for way in ways]
    return next((name for name in names if block and name.removesuffix(":in") in modules), "")


def _side(hook: str) -> str:
    """A module's output or input as it is written here: NAME.output is the module's, NAME.input is NAME:in."""
    return f"{hook.removesuffix('.input')}:in" if hook.endswith(".input") else hook.removesuffix(".output")
