"""How the report says things: numbers as people read them, and the words it uses."""

import math
from collections.abc import Sequence
from typing import Any

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
    "reference": "an exemplar: a stimulus shown as an explanation. For the headlines, the nine that drive a unit most "
    "and nine typical ones (thirty of each where the observer picks one feature); of two-sided trials, the nine "
    "highest and the nine lowest",
    "query": "a stimulus that must be placed: does it drive the unit more, or less?",
    "trial": "a two-alternative forced choice (2AFC): of these two queries, which one drives the "
    "unit more? Chance is 0.5",
    "band": "how far apart a trial's queries are. Of one-sided trials, `extreme` takes the stimuli that drive the unit "
    "most, v75 and v50 those nearest to 75 and 50 % of the way from its median to these, all against typical stimuli. "
    "Of two-sided ones, `extreme` takes the highest and lowest stimuli; v90, v75 and v60 those nearest to 90, 75 and "
    "60 % of the way from the mean of the low references to that of the high ones, and their complements. The smaller "
    "the number, the harder the trial",
    "pole": "one end of a unit's values. The main pole, which the headlines ask about, is the one with the heavier "
    "tail: in what the layer passes on, it lies further from the median",
    "typical stimulus": "one whose value lies near the unit's median, or where the unit rests",
    "observer": "whoever answers trials; a machine observer compares stimuli by feature vectors",
    "measure": "a function from a unit's data to one number",
    "factor": "a function from a model to one number beside its strength and score, such as how far it overfits",
    "predictable": "the first headline, a matched 2AFC accuracy: how often an observer that compares whole stimuli "
    "tells what drives the unit from a typical stimulus, where low-level statistics can't decide",
    "crisp": "the second headline, a single-feature 2AFC accuracy: how often one named feature, chosen by the "
    "references alone, answers right there",
    "coverage": "the share of units that could be measured: for the headlines, those that leave pairs of queries which "
    "low-level statistics can't decide",
    "reliability": "the rank correlation of the units' scores with those when reference and query half are exchanged",
    "capacity": "how many features of its dictionary an observer may use",
    "strength": "how capable a model is: by default bits of task information above guessing by frequency, on held-out "
    "stimuli; for text, bits per byte above the unigram model",
    "share": "the strength that ladders have in common: bits as a share of all that guessing by frequency leaves open. "
    "Labels and sums can be known for certain, the next word can't: a language model stays far below 1",
    "TIC": "total interpretable capability: the bits of strength that a model keeps when all units but the best "
    "quarter of each layer, by crisp, are replaced, above what is left without any unit",
    "excess": "how many bits more the best units carry than random ones, as many of each layer",
    "rung": "one model configuration of a kind; a rung has several seeds",
    "ladder": "rungs of one task, ordered by strength",
    "twin": "a control network: it should score low",
    "gain": "of a basis: the mean score of its units, as a dictionary's latents, minus that of the neurons of the same "
    "network",
    "dictionary": "a sparse autoencoder (SAE), whose latents are units",
    "interval": "95 %, from drawing units and seeds again; of two or three seeds it is too narrow where they differ "
    "more than their units explain",
    "verdict": "the shape of a curve by a rule fixed beforehand: valley, hump, increasing, decreasing, flat (only by "
    "an equivalence test), falls (or rises) and may turn, or cannot tell. n is the number of models, never of units",
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
    return NONE if value is None or missing(value) else f"{100 * value:z.0f} %".replace("-", MINUS)


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


def span(bounds: Sequence[Number]) -> str:
    """A range, as `0 to 1`; `any` stands for an end without bound."""
    return " to ".join("any" if end is None else f"{end:g}" for end in bounds).replace("-", MINUS)
