"""Mistakes of users: what is said of code that they wrote."""

import json
import re
from pathlib import Path

import pytest

from thalweg.errors import ThalwegError, unknown, user_code
from thalweg.runs.run import open_run


def test_what_user_code_raises_becomes_one_line_that_names_it_and_the_place():
    with pytest.raises(ThalwegError) as caught, user_code("observer 'mine'"):
        raise KeyError("no such column\nand more")
    assert re.fullmatch(
        r"observer 'mine' failed with KeyError: 'no such column\\nand more' \(test_errors\.py, line \d+\)",
        str(caught.value),
    )


def test_the_place_is_the_users_even_where_a_library_raised():
    place = r"load failed with JSONDecodeError: .* \(test_errors\.py, line \d+\)"
    with pytest.raises(ThalwegError, match=place), user_code("load"):
        json.loads("{")


def test_errors_of_ours_pass_through():
    mine = ThalwegError("as it is")
    with pytest.raises(ThalwegError) as caught, user_code("load"):
        raise mine
    assert caught.value is mine


def test_an_exception_that_says_nothing_is_named_by_its_type():
    with pytest.raises(ThalwegError, match=r"load failed with ValueError \(test_errors\.py"), user_code("load"):
        raise ValueError


def test_a_long_list_of_names_is_cut_and_counted():
    message = str(unknown("model", "xyzzy", [f"net{number}" for number in range(1040)]))
    assert "net0" in message
    assert message.endswith(" and 1,000 more")
    assert "more" not in str(unknown("model", "xyzzy", ["net1", "net2"]))


def test_a_report_of_what_is_no_run_says_so(tmp_path: Path):
    with pytest.raises(ThalwegError, match=r"there is no run in it; the folder of a survey was expected"):
        open_run(tmp_path)
    with pytest.raises(ThalwegError, match=r"runs/none: there is no such file or folder"):
        open_run(tmp_path / "runs" / "none")
