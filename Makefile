# make run | test | test-colab | test-colab-past | mutants | lab | page | bench | stress | lock
# make models | models-cats | models-faces | notebooks | export | published
# make colab REPO=owner/name | html | slides | clean
# Installing is part of each target: done once, and again when the pins change.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

LOCKED := $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -))
LOCK := pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-annotate --no-header
# Install what a file of requirements says: by the hashes of its lock file where that is tried, else by
# its pins. -qq: pip says nothing but errors.
install = $(PY) -m pip install -qq $(if $(LOCKED),--require-hashes -r $(1:.txt=.lock),-r $(1))

.PHONY: run test test-colab test-colab-past mutants lab page app bench stress lock models \
  models-cats models-faces notebooks export published colab html slides clean

run: $(VENV)/installed                ## the notebooks, end to end, into build/
	@$(PY) -m helpers.commands.run

# Two files of tests at a time, of one thread each: threads of one process would wait for each other
# beside other work.
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/installed-dev $(VENV)/installed-page   ## everything that is tested
	$(PY) -m ruff check .
	$(PY) -m helpers.commands.run --solve
	STYLECLIP_DOMAIN=avatars $(PY) -m pytest -q -n 2 --dist loadfile --nbval-lax tests build/solved

# Notebooks and panels with Colab's versions: those of today (needs Python 3.13), and those of its
# past runtime 2026.07 (needs Python 3.12).
test-colab test-colab-past: test-%: $(VENV)-%/installed
	STYLECLIP_DOMAIN=avatars PATH=$(CURDIR)/$(VENV)-$*/bin:$$PATH python -m helpers.commands.run
	$(VENV)-$*/bin/python -m pytest -q tests/panels/test_panels*.py tests/commands/test_colab.py

mutants: $(VENV)/installed-dev        ## small changes of the methods that no test notices (hours)
	$(PY) -m tests.bench.mutants $(ARGS)

# The server takes messages of 10 MB; a photograph of 40 MB comes in one message.
lab: $(VENV)/installed                ## notebook 1 in JupyterLab
	$(VENV)/bin/jupyter lab notebooks/01_latent_optimization.ipynb \
	  --ServerApp.tornado_settings="{'websocket_max_message_size': 64_000_000}"

page: $(VENV)/installed-page          ## a web page for visitors: make page ARGS="--share --auth USER:WORD"
	@$(PY) -m helpers.commands.page $(ARGS)

app:
	@echo "make app is make page now."

# make bench STYLECLIP=FOLDER: with a copy of the authors' code, a step of theirs and of ours in turn, too
bench: $(VENV)/installed-dev          ## the figures of tests/bench/README.md, into build/
	$(PY) -m tests.bench.worlds avatars times
	$(PY) -m tests.bench.worlds avatars quality
	$(PY) -m tests.bench.worlds cats quality
	$(PY) -m tests.bench.costs times
	$(if $(STYLECLIP),$(PY) -m tests.bench.originals --styleclip "$(STYLECLIP)" --race)

stress: $(VENV)/installed-dev         ## long attacks: odd files, bad servers, a wild visitor, kill -9
	$(PY) -m tests.bench.stress

lock: requirements.txt requirements-dev.txt requirements-page.txt   ## requirements*.lock, with hashes
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -qq uv
	build/lock/bin/uv $(LOCK) requirements.txt -o requirements.lock
	build/lock/bin/uv $(LOCK) -c requirements.lock requirements-dev.txt -o requirements-dev.lock
	build/lock/bin/uv $(LOCK) -c requirements-dev.lock requirements-page.txt -o requirements-page.lock

models: $(VENV)/installed-dev         ## the avatars' networks from nothing (hours); cut, it goes on
	$(PY) -m data.avatars.recipe.make

models-cats: $(VENV)/installed-dev    ## the cats' networks from nothing (hours); cut, it goes on
	$(PY) -m data.cats.recipe.make

models-faces: $(VENV)/installed-dev   ## the faces' networks, all but the generator, from labels (hours)
	$(PY) -m data.faces.recipe.make

published: $(VENV)/installed-dev      ## published weights and OpenAI's CLIP: a report, in build/published
	@$(PY) -m helpers.commands.published $(ARGS)
	@$(PY) -m data.faces.recipe.evaluate --clip ViT-B/32

notebooks: $(VENV)/installed-dev      ## re-run the notebooks and save them, cleaned, with their outputs
	@$(PY) -m helpers.commands.run --save

export: $(VENV)/installed             ## helpers/methods/ from the notebooks' tagged cells
	@$(PY) -m helpers.commands.export

html: $(VENV)/installed-dev           ## the notebooks as pages that need no network, in build/html
	@$(PY) -m helpers.commands.html

slides: $(VENV)/installed             ## the notebooks as slides, in build/slides
	$(VENV)/bin/jupyter nbconvert --to slides --SlidesExporter.reveal_scroll=True \
	  --SlidesExporter.reveal_width=1500 --SlidesExporter.reveal_height=950 --output-dir build/slides \
	  notebooks/*.ipynb

colab: $(VENV)/installed              ## badges and set-up cells say where this repository lives
	@$(PY) -m helpers.commands.colab "$(REPO)"

clean:
	rm -rf build

$(VENV)/installed: requirements.txt requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"Python 3.11, 3.12 or 3.13 is needed, this is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	@echo "Installing what the notebooks need into $(VENV) (about 3 minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(call install,requirements.txt)
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements-dev.lock $(VENV)/installed
	@echo "Installing what tests and recipes add (about 1 minute, once)"
	@$(call install,requirements-dev.txt)
	@command -v chromium >/dev/null || \
	  (apt-get update -qq && apt-get install -y -qq chromium) >/dev/null 2>&1 || \
	  echo "Chromium is not here and cannot be installed: the browser tests are skipped."
	@touch $@

$(VENV)/installed-page: requirements-page.txt requirements-page.lock $(VENV)/installed
	@echo "Installing what the page adds (about 1 minute, once)"
	@$(call install,requirements-page.txt)
	@touch $@

$(VENV)-colab/installed: COLAB_PYTHON ?= python3.13
$(VENV)-colab-past/installed: COLAB_PYTHON ?= python3.12
$(VENV)-colab/installed $(VENV)-colab-past/installed: $(VENV)-%/installed: tests/%-constraints.txt
	@echo "Installing Colab's versions into $(VENV)-$* (about 3 minutes, once)"
	@$(COLAB_PYTHON) -m venv $(VENV)-$*
	@$(VENV)-$*/bin/pip install -qq -c $< torch torchvision numpy pillow matplotlib ipywidgets \
	  ipykernel safetensors tqdm
	@$(VENV)-$*/bin/pip install -qq -c $< clip-anytorch requests platformdirs defusedxml dlib-bin \
	  pytorch-optimizer nbclient pytest
	@$(VENV)-$*/bin/python -m ipykernel install --sys-prefix --name python3 >/dev/null
	@touch $@
