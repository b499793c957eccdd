"""The rows of Neuronpedia's tables, made from what SAEDashboard says of units.

They are those of `neuronpedia_export` of SAEDashboard 0.8.0 and of `db_models` of Neuronpedia's utilities (August
2026). Columns that have a default there and that a run knows nothing of are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thalweg.files.identity import digest

CREATOR = "clkht01d40000jv08hvalcvly"  # the user that SAEDashboard names where none is given
NEVER = ("vector", "hasVector", "feature_index", "n_prompts_total", "n_tokens_in_prompt", "dataset", "activations")
Rows = list[dict[str, Any]]


def source_rows(source: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Rows]:
    """The tables of a source beside its units: by the name of their file.

    Args:
        source: `model`, `set`, `id`, `layers`, `units`, `release`, `about`, `layer`, `creator` and `finished`.
        described: One of its units as SAEDashboard describes it.
    """
    owner = {"creatorId": source["creator"], "createdAt": source["finished"], "visibility": "PUBLIC"}
    name, about = source["model"], source["about"]
    model = {"id": name, "displayNameShort": name, "displayName": name, "owner": "", "updatedAt": source["finished"]}
    model |= {"instruct": False, "inferenceEnabled": False}
    model |= {"layers": source["layers"], "neuronsPerLayer": source["units"]}
    release: dict[str, Any] = {"name": source["release"], "description": about, "descriptionShort": about, "urls": []}
    together = {"modelId": name, "name": source["set"], "description": about, "releaseName": source["release"]}
    itself = {"id": source["id"], "modelId": name, "setName": source["set"], "inferenceEnabled": False}
    itself |= {"dataset": described["dataset"], "notes": f"layer {source['layer']}"}
    itself |= {"num_prompts": described["n_prompts_total"], "num_tokens_in_prompt": described["n_tokens_in_prompt"]}
    return {
        "release": [release | {"creatorName": ""} | owner],
        "model": [model | owner],
        "sourceset": [together | {"creatorName": ""} | owner],
        "source": [itself | owner],
    }


def feature_rows(source: Mapping[str, Any], features: Iterable[Mapping[str, Any]]) -> Rows:
    """A row for each unit, of Neuronpedia's table of neurons."""
    return [
        {
            **_unit(source, each),
            "sourceSetName": source["set"],
            "creatorId": source["creator"],
            "createdAt": source["finished"],
            "maxActApprox": max((max(shown["values"]) for shown in each["activations"]), default=0.0),
            "hasVector": False,
            "hookName": source["layer"],
            **{name: value for name, value in each.items() if name not in NEVER},
        }
        for each in features
    ]


def activation_rows(source: Mapping[str, Any], features: Iterable[Mapping[str, Any]]) -> Rows:
    """A row for each text of each unit, with the unit's value at each token."""
    rows = []
    for each in features:
        for place, shown in enumerate(each["activations"]):
            values: Sequence[float] = shown["values"]
            highest = max(values)
            rows.append(
                {
                    "id": _id(source, each["feature_index"], place),
                    **_unit(source, each),
                    "tokens": shown["tokens"],
                    "values": values,
                    "maxValue": highest,
                    "maxValueTokenIndex": values.index(highest),
                    "minValue": min(values),
                    "binMin": shown["bin_min"],
                    "binMax": shown["bin_max"],
                    "binContains": shown["bin_contains"],
                    "qualifyingTokenIndex": shown["qualifying_token_index"],
                    "creatorId": source["creator"],
                    "createdAt": source["finished"],
                }
            )
    return rows


def explanation_rows(source: Mapping[str, Any], explanations: Iterable[Mapping[str, Any]]) -> Rows:
    """A row for each explanation of the run: `unit`, `explanation`, `explainer` and `method`."""
    return [
        {
            "id": _id(source, each["unit"], each["explainer"], each["method"], each["version"]),
            "modelId": source["model"],
            "layer": source["id"],
            "index": str(each["unit"]),
            "description": each["explanation"],
            "authorId": source["creator"],
            "explanationModelName": each["explainer"] or None,
            "typeName": each["method"] or None,
            "createdAt": source["finished"],
            "updatedAt": source["finished"],
        }
        for each in explanations
    ]


def _unit(source: Mapping[str, Any], feature: Mapping[str, Any]) -> dict[str, str]:
    return {"modelId": source["model"], "layer": source["id"], "index": str(feature["feature_index"])}


def _id(source: Mapping[str, Any], *of: object) -> str:
    """An id that is the same whenever the row is made again."""
    return f"c{digest(source['release'], source['model'], source['id'], *of)}"
