"""How the report says things: numbers as people read them, the words it uses, and the command that made it."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from thalweg.ladders import ships
from thalweg.measures.base import MEASURES
from thalweg.observers.base import OBSERVERS
from thalweg.pipeline.settings import OF_LADDERS, Settings

Number = float | int | None

NONE = "–"  # stands for a number that is missing
MINUS = "−"
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

GLOSSARY = {
    "stimulus": "one input that can be shown: an image, a token window, a pair of numbers",
    "unit": "one scalar read-out of a layer: a neuron, a channel, a dictionary latent, a direction",
    "basis": "what the units of a layer are: neurons, a dictionary, a random rotation",
    "layer": "a named place in a model whose output holds units; its values are taken before the nonlinearity",
    "pool": "the held-out stimuli that a ladder is measured on, split once into a reference half and a query half",
    "reference": "an exemplar: a stimulus shown as an explanation: the nine that drive a unit most "
    "and the nine that drive it least",
    "query": "a stimulus that must be placed: does it drive the unit more, or less?",
    "trial": "a two-alternative forced choice (2AFC): of these two queries, which one drives the "
    "unit more? Chance is 0.5",
    "band": "how far apart a trial's queries are: `extreme` takes the highest and lowest stimuli; v90, v75 and v60 "
    "those nearest to 90, 75 and 60 % of the way from the mean of the low references to that of the high ones, and "
    "their complements. The smaller the number, the harder the trial",
    "observer": "whoever answers trials; a machine observer compares stimuli by feature vectors",
    "measure": "a function from a unit's data to one number",
    "factor": "a function from a model to one number beside its strength and score, such as how far it overfits",
    "predictable": "the first headline, a matched 2AFC accuracy: how often an observer that compares "
    "whole stimuli answers right, where "
    "low-level statistics can't decide",
    "crisp": "the second headline, a single-feature 2AFC accuracy: how often one named feature, "
    "chosen by the references "
    "alone, answers right there",
    "coverage": "the share of units that could be measured: for the headlines, those that leave pairs of queries which "
    "low-level statistics can't decide",
    "reliability": "the rank correlation of the units' scores with those when reference and query half are exchanged",
    "capacity": "how many features of its dictionary an observer may use",
    "strength": "how capable a model is: by default bits of task information above guessing by frequency, on held-out "
    "stimuli; for text, bits per byte above the unigram model",
    "share": "the strength that ladders have in common: bits as a share of all that guessing by frequency leaves open. "
    "Labels and sums can be known for certain, the next word can't: a language model stays far below 1",
    "rung": "one model configuration of a kind; a rung has several seeds",
    "ladder": "rungs of one task, ordered by strength",
    "twin": "a control network: it should score low",
    "dictionary": "a sparse autoencoder (SAE), whose latents are units",
    "untrained": "a twin: the same network with its first weights, never trained; running statistics that it "
    "normalises by are estimated on stimuli",
    "rotated": "a twin: the units of the trained layer, mixed by a fixed random rotation",
    "rerandomised": "a twin: the trained network, each weight tensor drawn again from a Gaussian with its own mean and "
    "variance",
    "memorising": "a twin in the ladder of sums: the same network, trained without weight decay until it knows its "
    "training pairs by heart",
    "interval": "95 %, from drawing units and seeds again",
    "verdict": "the shape of a curve by a rule fixed beforehand: valley, hump, increasing, decreasing, flat (only by "
    "an equivalence test), or cannot tell. n is the number of models, never of units",
}


def missing(value: Any) -> bool:
    """Whether there is no number."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def decimal(value: Number, digits: int = 2) -> str:
    """A number with so many decimals, its minus a real one."""
    return NONE if value is None or missing(value) else f"{value:z.{digits}f}".replace("-", MINUS)


def signed(value: Number, digits: int = 2) -> str:
    """A difference, with its sign."""
    if value is None or missing(value):
        return NONE
    text = f"{value:+.{digits}f}"
    return (text if float(text) else text[1:]).replace("-", MINUS)


def percent(value: Number) -> str:
    """A share in percent."""
    return NONE if value is None or missing(value) else f"{100 * value:.0f} %"


def whole(value: Number) -> str:
    """A count, its thousands set apart."""
    return NONE if value is None or missing(value) else f"{value:,.0f}"


def big(value: Number) -> str:
    """A number too large to count by: two digits and a power of ten."""
    if value is None or missing(value):
        return NONE
    if abs(value) < 1e5:
        return whole(value)
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def interval(value: Number, low: Number, high: Number) -> str:
    """An estimate with its interval."""
    if missing(value):
        return NONE
    ends = "" if missing(low) or missing(high) else f" ({decimal(low)} to {decimal(high)})"
    return f"{decimal(value)}{ends}"


def p_value(value: Number) -> str:
    """A p value to three digits."""
    if value is None or missing(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def on_axis(axis: str, value: Number) -> str:
    """A strength as its axis is read."""
    return {"accuracy": percent, "parameters": whole, "compute": big}.get(axis, decimal)(value)


def listing(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def meaning(measure: str) -> str:
    """The first sentence of a measure's docstring."""
    if measure not in MEASURES:
        return "A measure that is not registered here."
    text = (MEASURES[measure].function.__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()).replace("`", "")


def sees(observer: str) -> str:
    """What an observer says that it sees."""
    return OBSERVERS[observer].sees if observer in OBSERVERS else "An observer of the user's own."


def command(record: Mapping[str, Any]) -> str:
    """The command that makes the run again: for the shell, or for Python if ladders or observers are the user's own."""
    settings, ladders = dict(record["settings"]), list(record["ladders"])
    asked = [name for name in settings.get("observer", ()) if name not in _parts(settings["observer"])]
    settings["observer"] = asked  # an observer brings its parts along
    usual = {field.name: field.default for field in fields(Settings) if field.default is not MISSING}
    changed = {
        name: settings[name]
        for name, default in usual.items()
        if name in settings and _listed(settings[name]) != _listed(default)
    }
    unregistered = [name for name in asked if name not in OBSERVERS]
    call = [word for ladder in record["ladders"].values() for word in ladder.get("call", ())]
    if call and not unregistered:
        kept = {name: value for name, value in changed.items() if name not in OF_LADDERS}
        return shlex.join(["thalweg", *call, *_flags(kept)])
    if unregistered or not all(map(ships, ladders)):
        arguments = [f"<ladder {ladder!r}>" if not ships(ladder) else repr(ladder) for ladder in ladders]
        named = [f"{name}={value!r}" for name, value in changed.items()]
        return f"thalweg.survey({', '.join([*arguments, *named])})"
    return shlex.join(["thalweg", "survey", *ladders, *_flags(changed)])


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they are given on a command line."""
    words = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] if value else [f"--no-{name}"]
        else:
            words += [word for item in _listed(value) for word in (flag, str(item))]
    return words


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _parts(observers: Sequence[str]) -> set[str]:
    return {part for observer in observers if observer in OBSERVERS for part in OBSERVERS[observer].parts}
