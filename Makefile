# make demo   set everything up in .venv and train the demo network
# make test   set everything up in .venv and run all checks
PYTHON ?= python3
BIN := .venv/bin
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint wheel clean

demo: .venv/done
	rm -rf runs/demo
	$(BIN)/synaprune train digits/grad_r --out runs/demo

test: lint wheel
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: .venv/done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The wheel as a user meets it: alone in a new environment, without the extras.
wheel: .venv/done
	rm -rf build
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . > /dev/null
	$(PYTHON) -m venv build/empty
	build/empty/bin/python $(INSTALL) torch==2.13.0
	build/empty/bin/python $(INSTALL) build/wheel/*.whl
	build/empty/bin/python -P .ci/empty_environment.py

# torch with what its build needs, then the list as it stands: left to their own, SpikingJelly's requirements bring
# torchvision and torchaudio, which nothing here imports, and which fail to load beside any torch but the one they name.
.venv/done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("synaprune needs Python 3.11 or later; name one: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(INSTALL) torch==2.13.0
	$(BIN)/python $(INSTALL) --no-deps --requirement constraints.txt --editable .
	touch $@

clean:
	rm -rf .venv build dist runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
