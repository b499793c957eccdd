"""What is written beside a dictionary for whoever finds it: what it was trained on and how good it is, in sentences."""

from collections.abc import Mapping

Value = float | int | str | None


def notes(summary: Mapping[str, Value]) -> str:
    """The `README.md` of a dictionary, from the summary of its training."""
    return f"""# A dictionary of {summary["subject"]}, layer {summary["layer"]}

A TopK sparse autoencoder in the layout of SAELens, trained by thalweg: {_many(summary["latents"])} latents, of which
{summary["k"]} are active at once, on {_many(summary["rows"])} rows of {_many(summary["neurons"])} neurons from
{_many(summary["stimuli"])} stimuli. The numbers below are of {_many(summary["held_out"])} other stimuli;
`training.json` has them in full.

- Places left out at the beginning of each stimulus: {summary["skipped_places"]} ({summary["skipped_because"]}).
- Explained variance: {_by_place(summary, "explained_variance")}.
- Dead latents (none of these stimuli activates them): {_by_place(summary, "dead")}.
- {_loss(summary)}

Use it with `thalweg measure SUBJECT --basis sae:FOLDER`.
"""


def _by_place(summary: Mapping[str, Value], name: str) -> str:
    """A share at the places that are measured, elsewhere, and over all."""
    if summary[f"{name}_elsewhere"] is None:
        return f"{_share(summary[name])} (all places are measured)"
    return (
        f"{_share(summary[f'{name}_measured'])} at the last place, which is measured; "
        f"{_share(summary[f'{name}_elsewhere'])} elsewhere; {_share(summary[name])} over all"
    )


def _loss(summary: Mapping[str, Value]) -> str:
    if "loss" not in summary:
        return "The loss recovered was not evaluated."
    return (
        f"Loss recovered: {_share(summary['recovered_from_zero'])} where zeros are the ablation, "
        f"{_share(summary['recovered_from_mean'])} where the mean is."
    )


def _many(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int | float) else "none"


def _share(value: Value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "none"
