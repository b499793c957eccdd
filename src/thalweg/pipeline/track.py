"""What a survey tells trackers: how each network's training went, how long stages took, scores and verdicts."""

from collections.abc import Mapping, Sequence

import polars as pl

from thalweg.files import whole
from thalweg.files.names import file_name
from thalweg.pipeline.job import Model
from thalweg.pipeline.settings import Settings
from thalweg.runs.directory import RunDirectory
from thalweg.tracking.trackers import Tracker

HEADLINES = ("predictable", "crisp")


def track_training(models: Sequence[Model], tell: Sequence[Tracker]) -> None:
    """Tell of the course of each network's training, where its trainer noted it."""
    for model in models if tell else ():
        file = model.run / model.course_file
        courses = whole.read_json(file) if file.is_file() else {}
        for control, points in courses.items():
            name = "-".join((model.rung.name, str(model.seed), *(() if control == "trained" else (control,))))
            for tracker in tell:
                tracker.write(f"{file_name(model.ladder.name)}/{file_name(name)}", points, {})


def track_results(
    run: RunDirectory, settings: Settings, basis: str, seconds: Mapping[str, float], tell: Sequence[Tracker]
) -> None:
    """Tell of each ladder's trained models, the weakest first, with the verdicts on their curves; and of the stages.

    Args:
        run: The run, whose tables and verdicts are written.
        settings: Its settings, for the strength axis.
        basis: The main basis.
        seconds: What each stage took.
        tell: The trackers.
    """
    if not tell:
        return
    models = whole.read_frame(run / "models.parquet").filter(control="trained", basis=basis)
    verdicts = [each for each in whole.read_json(run / "shape.json") if each["headline"] and each["kind"] == "all"]
    for (ladder,), rows in models.group_by("ladder", maintain_order=True):
        ordered = rows.sort(settings.strength, maintain_order=True).select(settings.strength, *HEADLINES)
        points = ordered.with_row_index("step").with_columns(pl.col("step").cast(pl.Int64)).to_dicts()
        said = {f"verdict/{each['headline']}": each["sentence"] for each in verdicts if each["ladder"] == ladder}
        for tracker in tell:
            tracker.write(f"{file_name(str(ladder))}/curve", points, said)
    for tracker in tell:
        tracker.write("stages", [{"step": 0, **{f"seconds/{name}": value for name, value in seconds.items()}}], {})
