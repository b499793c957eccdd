"""The page of an analysis: the verdict on people's curve, the models, who counts, and how people and machines agree."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from altair.utils.schemapi import debug_mode

from thalweg.files.whole import write_text
from thalweg.psychophysics.tables import MODEL
from thalweg.report import charts
from thalweg.report.charts import Figure, Panel, ValueAxis
from thalweg.report.listings import Cell, Table, number, table, word
from thalweg.report.page import environment, frame, shown_figure
from thalweg.report.text import decimal, interval, missing, p_value, percent, whole

HERE = Path(__file__).parent
CHANCE = 0.5
TRAINED = "trained"
HOVER = ("rung", "model", "score", "from", "to", "units", "strength")
Row = Mapping[str, Any]


def write_page(record: Row, path: Path) -> Path:
    """Write the page of an analysis: one HTML file that needs no network.

    Args:
        record: What analysis.json says.
        path: The file.
    """
    write_text(path, render(record))
    return path


def render(record: Row) -> str:
    """The whole page; the same record makes the same text."""
    with debug_mode(False):  # Vega checks the charts too
        drawn = [shown_figure(figure, figure.name) for figure in _figures(record["kept"])]
    sections = [
        _section("verdict", "Verdict", _verdicts(record), figures=drawn),
        _section("models", "Models", [MODELS], _models(record), _bands(record)),
        _section("participants", "Who counts", _who(record), _reasons(record)),
        _section("people", "How far people agree with each other", _agreeing(record["kept"]), _reliability(record)),
        _section("machines", "People and machines", [MACHINES], _machines(record), _temperatures(record)),
        _section("tests", "Mixed-effects model and comparisons", [TESTS], *_tests(record["kept"])),
    ]
    context = {
        **frame(drawn),
        "name": record["study"]["name"],
        "lead": _lead(record),
        "sections": [section for section in sections if _says_something(section)],
    }
    return environment(HERE).get_template("analysis.html.j2").render(context)


def printed(record: Row) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """What the command line prints: the heads and lines of the table of models, and sentences."""
    heads = ("model", "right", "95 %", "d′", "units", "responses")
    lines: list[tuple[str, ...]] = []
    for row in record["kept"]["models"]:
        name, share = _named(row, record["kept"]["models"]), row["hierarchical"]
        ends = f"{decimal(share['low'])} to {decimal(share['high'])}"
        counted = (whole(row["n_units"]), whole(row["n_responses"]))
        lines.append((name, decimal(share["value"]), ends, decimal(row["d_prime"]["value"]), *counted))
    exclusion = record["exclusion"]
    reasons = "; ".join(f"{count} {reason}" for reason, count in exclusion["reasons"].items())
    who = f"{exclusion['n_kept']} of {exclusion['n_participants']} participants count"
    reliable = [
        f"{row['ladder']} ({row['control']}): the reliability of units' scores is {_ends(row).text}"
        for row in record["kept"]["reliability"]
    ]
    return (
        heads,
        lines,
        [f"{who}{f' ({reasons})' if reasons else ''}", *_agreeing(record["kept"]), *reliable, *_verdicts(record)],
    )


MODELS = (
    "The proportion of right answers; chance is 0.5. Mean over layers: of the mean over units, with an interval from "
    "the differences between units, as for every other observer. Over all answers: with a hierarchical interval, which "
    "allows for units and participants being more alike than independent answers. d′ is the sensitivity, √2 z(p)."
)
MACHINES = (
    "Spearman's correlation of people's scores with those of each observer, over units and over models. The ceiling is "
    "the square root of the reliability of people's scores: no observer can be expected to correlate more. Without "
    "noise: the correlation divided by the ceiling. The temperature is that of mis: how large a difference in an "
    "observer's evidence must be for people to be right with probability 0.73; it was published as 0.16 for another "
    "observer."
)
TESTS = (
    "Mixed-effects logistic model: the probability that a usual participant is right about a usual unit. Comparison: "
    "Kruskal and Wallis's test across models on the scores of units, and Conover's test of pairs after Holm's "
    "correction, as in the published study."
)


def _section(
    name: str, title: str, sentences: Sequence[str], *tables: Table, figures: Sequence[Row] = ()
) -> dict[str, Any]:
    return {"id": name, "title": title, "sentences": sentences, "tables": tables, "figures": figures}


def _says_something(section: Row) -> bool:
    """Whether a section has more than its explanation."""
    filled = any(each.lines for each in section["tables"]) or section["figures"]
    return bool(filled) or section["id"] in ("verdict", "participants")


def _lead(record: Row) -> str:
    kept, exclusion = record["kept"], record["exclusion"]
    simulated = "The participants are simulated: no person was asked. " if record["study"].get("simulated") else ""
    return (
        f"{simulated}{whole(exclusion['n_kept'])} of {whole(exclusion['n_participants'])} participants count, with "
        f"{whole(kept['n_responses'])} responses about {whole(sum(row['n_units'] for row in kept['models']))} units of "
        f"{whole(len(kept['models']))} models. In each trial they saw what drives a unit most and what does not, and "
        "said which of two new stimuli drives it more."
    )


def _named(row: Row, models: Sequence[Row]) -> str:
    """A model's name; with its ladder and its seed where the models have several, and with its twin."""
    ladder = f"{row['ladder']}: " if len({each["ladder"] for each in models}) > 1 else ""
    several = len({_key({**each, "seed": 0}) for each in models}) < len(models)
    seed = f", seed {row['seed']}" if several and "seed" in row else ""
    twin = "" if row.get("control", TRAINED) == TRAINED else f" ({row['control']})"
    return f"{ladder}{row['rung']}{seed}{twin}"


def _group(row: Row) -> str:
    """The models of a ladder, or their twins."""
    return f"{row['ladder']}, {row['control']}"


def _verdicts(record: Row) -> list[str]:
    """The verdicts in words, and whether they change when everyone counts."""
    lines = []
    kept, everyone = (record[name]["verdicts"] for name in ("kept", "everyone"))
    for verdict, other in zip(kept, everyone, strict=True):
        where = f"{verdict['ladder']}: " if len(kept) > 1 else ""
        same = "the same" if other["verdict"] == verdict["verdict"] else f"{other['verdict']!r}"
        lines.append(f"{where}{verdict['sentence']} With everyone who answered the verdict is {same}.")
    return lines or ["No verdict: the strengths of these models were not given (--strengths)."]


def _figures(kept: Row) -> Iterator[Figure]:
    """The curve of each ladder whose models' strengths are known."""
    for index, verdict in enumerate(kept["verdicts"], 1):
        models = [row for row in kept["models"] if row["ladder"] == verdict["ladder"] and row["strength"] is not None]
        rows = [_point(row) for row in models]
        controls = tuple(dict.fromkeys(row["control"] for row in rows))
        low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
        chart = charts.curve(
            rows,
            axis=verdict["axis"],
            score=ValueAxis("proportion correct", (min(low, 0.45) - 0.02, max(high, 0.9) + 0.02), CHANCE),
            kinds={"model": "circle"},
            verdict=verdict,
        )
        name = verdict["ladder"]
        summary = f"People's proportion of right answers for {len(rows)} models of {name}. {verdict['sentence']}"
        panel = Panel(name, summary, _with_hover(chart), f"verdict: {verdict['verdict']}")
        caption = ("Points are models, with intervals of 95 %; the line is the best curve of the verdict's shape.",)
        yield Figure(f"curve-{index}", f"People: {name}", caption, (panel,), controls, columns=1)


def _point(row: Row) -> dict[str, Any]:
    score = row["mean_of_units"] if row["low"] is None else row
    return {
        **{"rung": row["rung"], "kind": "model", "control": row["control"], "seed": None, "coverage": 1},
        **{"strength": row["strength"], "score": score["value"], "n_units": row["n_units"]},
        **{end: score["value"] if score[end] is None else score[end] for end in ("low", "high")},
    }


def _with_hover(chart: charts.Specification) -> charts.Specification:
    """The report's chart with what is known here of a point."""
    for layer in chart["layer"]:
        tips = layer["encoding"].get("tooltip")
        if tips:
            layer["encoding"]["tooltip"] = [tip for tip in tips if tip["title"] in HOVER]
    return chart


def _ends(row: Row | None) -> Cell:
    """A number with its interval."""
    if row is None or row["value"] is None:
        return Cell(interval(None, None, None), float("inf"))
    return Cell(interval(row["value"], row["low"], row["high"]), float(row["value"]))


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in MODEL)


def _models(record: Row) -> Table:
    everyone = {_key(row): row for row in record["everyone"]["models"]}
    models = record["kept"]["models"]
    return table(
        "models-scores",
        "Proportion of right answers by model",
        (
            {
                "model": word(_named(row, models)),
                "mean over layers": _ends(row),
                "mean over units": _ends(row["mean_of_units"]),
                "over all answers": _ends(row["hierarchical"]),
                "everyone": _ends(everyone[_key(row)]["hierarchical"]),
                "without lapses": number(row["without_lapses"], decimal),
                "d′": _ends(row["d_prime"]),
                "criterion": number(row["sides"]["criterion"] if row["sides"] else None, decimal),
                "seconds": number(row["median_seconds"], decimal),
                "units": number(row["n_units"], whole),
                "participants": number(row["n_participants"], whole),
                "responses": number(row["n_responses"], whole),
            }
            for row in models
        ),
    )


def _bands(record: Row) -> Table:
    bands, models = record["kept"]["bands"], record["kept"]["models"]
    names = list(dict.fromkeys(row["band"] for row in bands))
    cells: dict[str, dict[str, Cell]] = {_named(row, models): {} for row in models}  # in order of strength
    for row in bands:
        cells[_named(row, models)][row["band"]] = _ends(row)
    lines = [
        {"model": word(model), **{name: by.get(name, _ends(None)) for name in names}} for model, by in cells.items()
    ]
    return table("models-bands", "Proportion of right answers by band", lines if len(names) > 1 else [])


def _who(record: Row) -> list[str]:
    exclusion = record["exclusion"]
    lines = [
        "The rules were fixed before the study ran. They see neither whether main trials were answered rightly nor "
        "which model these were about."
        if exclusion["rules"]
        else "The study brought its own checks, which decide here."
    ]
    if exclusion["guesser_passes"] is not None:
        lines.append(
            f"Someone who only guesses passes the rule on {exclusion['n_catch']} catch trials with probability "
            f"{decimal(exclusion['guesser_passes'])}."
        )
    lapse = record["kept"]["lapse"]
    if lapse["value"] is not None:
        lines.append(
            f"Those who count lapse in {percent(lapse['value'])} of trials ({percent(lapse['low'])} to "
            f"{percent(lapse['high'])}), by their wrong answers to {whole(lapse['n_catch'])} catch trials; everyone in "
            f"{percent(record['everyone']['lapse']['value'])}."
        )
    return lines


def _reasons(record: Row) -> Table:
    exclusion = record["exclusion"]
    rows = {"all participants": exclusion["n_participants"], **exclusion["reasons"], "count": exclusion["n_kept"]}
    return table(
        "participants-reasons",
        "Participants, and why they do not count",
        ({"participants": word(name), "number": number(count, whole)} for name, count in rows.items()),
    )


def _agreeing(kept: Row) -> list[str]:
    alpha = kept["alpha"]
    if alpha["value"] is None:
        return ["No trial was answered by two people, so there is no Krippendorff's alpha."]
    what = "which query was picked" if alpha["of"] == "picked" else "whether the answer was right"
    return [
        f"Krippendorff's alpha (nominal) of {what} is {decimal(alpha['value'])}, over {whole(alpha['n_trials'])} "
        "trials that several people answered; 0 is chance, 1 full agreement."
    ]


def _reliability(record: Row) -> Table:
    rows = record["kept"]["reliability"]
    return table(
        "people-reliability",
        "Split-half reliability of the scores of units (Spearman and Brown)",
        (
            {
                "models": word(_group(row)),
                "reliability": _ends(row),
                "ceiling": number(row["ceiling"], decimal),
                "units": number(row["n_units"], whole),
            }
            for row in rows
        ),
    )


def _machines(record: Row) -> Table:
    return table(
        "machines-agreement",
        "Agreement of people with other observers",
        (
            {
                "observer": word(row["other"]),
                "by": word(row["measure"].replace("_", " ")),
                "model": word(row["control"]),
                "over": word(row["level"]),
                "correlation": _ends({**row, "value": row["rho"]}),
                "ceiling": number(row["ceiling"], decimal),
                "without noise": _ends(
                    {"value": row["corrected"], "low": row["corrected_low"], "high": row["corrected_high"]}
                ),
                "n": number(row["n"], whole),
                "note": word(row["note"]),
            }
            for row in record["agreement"]
        ),
    )


def _temperatures(record: Row) -> Table:
    return table(
        "machines-temperature",
        "Temperature of mis, fitted to people",
        (
            {
                "observer": word(row["observer"]),
                "temperature": _ends(row),
                "responses": number(row["n"], whole),
                "note": word(row["note"] or ("" if row["high"] is not None else "no upper end")),
            }
            for row in record["temperature"]["observers"]
        ),
    )


def _tests(kept: Row) -> Iterator[Table]:
    """The mixed-effects models and the comparisons."""
    effects = [
        {
            "model": word(_named({**fit, "rung": effect["name"]}, kept["models"])),
            "probability": _ends(effect["probability"]),
            "logit": number(effect["logit"], decimal),
            "standard error": number(effect["se"], decimal),
            "sd of participants": _ends(fit["sd_participant"]),
            "sd of units": _ends(fit["sd_unit"]),
        }
        for fit in kept["mixed"]
        for effect in fit["effects"]
    ]
    yield table("tests-mixed", "Mixed-effects logistic model", effects)
    overall = [
        {
            "models": word(_group(test)),
            "H": number(test["statistic"], decimal),
            "p": number(test["p"], p_value),
            "pairs that differ (p < 0.05)": word(
                f"{sum(pair['p'] < 0.05 for pair in test['pairs'])} of {len(test['pairs'])}"
            ),
        }
        for test in kept["comparison"]
        if not missing(test["statistic"])
    ]
    yield table("tests-overall", "Kruskal and Wallis's test", overall)
    pairs = [
        {
            "models": word(_group(test)),
            "first": word(pair["first"]),
            "second": word(pair["second"]),
            "difference": number(pair["difference"], decimal),
            "p": number(pair["p"], p_value),
        }
        for test in kept["comparison"]
        for pair in test["pairs"]
        if test["control"] == TRAINED
    ]
    yield table("tests-pairs", "Conover's test of pairs", pairs)
