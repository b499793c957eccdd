"""Trials as the browser is given them: ids, pictures, pieces of text, and nothing that says what is right."""

import json

from thalweg.study.design import Study


def trial_as_json(study: Study, trial: str) -> str:
    """A trial's id and stimuli."""
    item, shelf = study.items[trial], study.shelf
    parts = {
        side: ", ".join(shelf[name] for name in names)
        for side, names in (("high", item.high), ("low", item.low), ("queries", item.queries))
    }
    sides = ", ".join(f'"{side}": [{stimuli}]' for side, stimuli in parts.items())
    return f'{{"id": {json.dumps(trial)}, {sides}}}'
