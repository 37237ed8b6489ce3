# make quickstart   scenes -> train a small network -> score it -> masks to look at (about 8 minutes on 2 cores)
# make test         the whole test suite
# make lint         style, types and import layers
# make docs         the documents as a site, in build/site; a dead link is an error
# Each works as the first command in a fresh clone: it creates .venv and installs seg into it.

PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart

.PHONY: setup quickstart test lint docs clean

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
	$(BIN)/seg report $(RUN)
	$(BIN)/python tools/draw_examples.py $(RUN) $(RUN)/examples.png
	@echo
	@echo "Images, predictions and ground truth:  $(RUN)/examples.png"
	@echo "All images, scores and curves:         $(RUN)/report/index.html"
	@echo "Curves while it trains:                $(BIN)/tensorboard --logdir $(dir $(RUN))"
	@echo "Next: PASCAL VOC, docs/voc.md; your own data, docs/your-data.md."

test: setup
	$(BIN)/python -m pytest -n auto

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -d build/site

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
