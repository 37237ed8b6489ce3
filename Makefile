# make quickstart   scenes -> train a small network -> score it -> masks to look at (about 7 minutes on 2 cores)
# make test         the whole test suite
# Either works as the first command on a fresh clone: it makes .venv and installs into it.

PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart

.PHONY: setup quickstart test lint clean

setup: .venv/installed

.venv/installed: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: setup
	test -d data/scenes || $(BIN)/seg data scenes data/scenes --train 1200 --val 60 --size 128
	$(BIN)/seg train quickstart $$(test -f $(RUN)/last.ckpt && echo --resume)
	$(BIN)/seg evaluate $(RUN)/best.safetensors --json $(RUN)/scores.json
	$(BIN)/seg predict $(RUN)/best.safetensors data/scenes/ImageSets/Segmentation/val.txt --out $(RUN)/masks --mode side-by-side
	@echo
	@echo "Look at $(RUN)/masks/*.png, and at the curves: $(BIN)/tensorboard --logdir $(RUN)"
	@echo "Next, PASCAL VOC: see README.md, 'Train on PASCAL VOC'; your own data: 'Your own data'."

test: setup
	$(BIN)/python -m pytest -n auto

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
