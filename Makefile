# Two commands: `make survey` draws the curve, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: survey test format clean

survey: .venv/survey
	$(BIN)/thalweg survey mnist --out runs/mnist

test: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

format: .venv/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/survey: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[mnist,deep]'
	touch $@

.venv/test: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
