"""How the gallery shades the tokens of texts."""

import polars as pl

from thalweg.report.pictures import _unit


def test_a_sink_at_the_beginning_leaves_the_other_tokens_their_shades():
    texts = {
        "high reference": [-900.0, 0.0, 4.0],
        "low reference": [-950.0, 2.0, 0.0],
        "high query": [-920.0, 9.0, 3.0],
    }
    rows = [
        {
            "layer": "l",
            "unit": 0,
            "measure": "one_sided",
            "value": 0.9,
            "role": role,
            "rank": 0,
            "first": True,
            "label": "a text",
            "html": "",
            "png": b"",
            "pieces": ["the", " old", " man"],
            "values": values,
        }
        for role, values in texts.items()
    ]
    shown = _unit(pl.DataFrame(rows), {})
    shades = [[shade for _, shade in each["pieces"]] for each in (*shown["high"], *shown["low"], *shown["trial"])]
    assert shades == [[0, 0, 1], [0, 0.5, 0], [0, 1, 0.75]]
