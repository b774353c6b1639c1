# make run | test | test-colab | lab | app | bench | stress | lock | models | models-faces | colab | slides        (installing is part of each, done once, and again when the pins change)
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

LOCKED := $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -))
LOCK := pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
  --no-annotate --no-header
# Install what a file of requirements says: by the hashes of its lock file where that is tried, else by its pins.
install = $(PY) -m pip install -q $(if $(LOCKED),--require-hashes -r $(1:.txt=.lock),-r $(1))

.PHONY: run test test-colab lab app bench stress lock models models-faces notebooks export colab slides clean

run: $(VENV)/installed                ## the notebooks, end to end, into build/
	$(PY) notebooks/run.py

# Two files of tests at a time, of one thread each: threads of one process would wait for each other beside other work.
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/installed-dev           ## everything that is tested
	$(PY) -m ruff check .
	$(PY) notebooks/run.py --solve
	STYLECLIP_DOMAIN=avatars $(PY) -m pytest -q -n 2 --dist loadfile --nbval-lax tests build/solved

test-colab: $(VENV)-colab/installed   ## the notebooks and the panels under Colab's own versions (needs Python 3.13)
	STYLECLIP_DOMAIN=avatars PATH=$(CURDIR)/$(VENV)-colab/bin:$$PATH python notebooks/run.py
	$(VENV)-colab/bin/python -m pytest -q tests/test_panels.py tests/test_colab.py

lab: $(VENV)/installed                ## notebook 1 in JupyterLab
	$(VENV)/bin/jupyter lab notebooks/01_latent_optimization.ipynb

app: $(VENV)/installed                ## notebook 3's panel alone, as a web page
	$(PY) notebooks/app.py

# make bench STYLECLIP=FOLDER: with a copy of the authors' code, a step of theirs and of ours in turn, too
bench: $(VENV)/installed-dev          ## the figures of tests/bench/README.md, into build/
	$(PY) tests/bench/bench.py
	$(PY) tests/bench/costs.py times
	$(if $(STYLECLIP),$(PY) tests/bench/originals.py --styleclip "$(STYLECLIP)")

stress: $(VENV)/installed-dev         ## long attacks: odd files, bad servers, a wild visitor, kill -9 (tests/bench/README.md)
	$(PY) tests/bench/stress.py

lock: requirements.txt requirements-dev.txt   ## every package that is installed, with hashes, into requirements*.lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -q uv
	build/lock/bin/uv $(LOCK) requirements.txt -o requirements.lock
	build/lock/bin/uv $(LOCK) -c requirements.lock requirements-dev.txt -o requirements-dev.lock

models: $(VENV)/installed-dev         ## the avatars' networks from nothing (hours); goes on where it was stopped
	$(PY) data/avatars/recipe/make.py

models-faces: $(VENV)/installed-dev   ## the faces' networks, all but the generator, from labels and nothing else (hours)
	$(PY) data/faces/recipe/make_faces.py

notebooks: $(VENV)/installed-dev      ## re-run the notebooks and save them, cleaned, with their outputs
	$(PY) notebooks/run.py --save

export: $(VENV)/installed             ## helpers/methods/ from the notebooks' cells tagged `export`
	$(PY) notebooks/export.py

slides: $(VENV)/installed             ## the notebooks as slides, in build/slides
	$(VENV)/bin/jupyter nbconvert --to slides --SlidesExporter.reveal_scroll=True --SlidesExporter.reveal_width=1500 \
	  --SlidesExporter.reveal_height=950 --output-dir build/slides notebooks/*.ipynb

colab: $(VENV)/installed              ## make colab REPO=owner/name: badges and set-up cells say where this lives
	$(PY) notebooks/colab.py "$(REPO)"

clean:
	rm -rf build

$(VENV)/installed: requirements.txt requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"Python 3.11, 3.12 or 3.13 is needed, this is {v[0]}.{v[1]}: try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(call install,requirements.txt)
	@touch $@

$(VENV)-colab/installed: tests/colab-constraints.txt
	python3.13 -m venv $(VENV)-colab
	$(VENV)-colab/bin/pip install -q -c $< torch torchvision numpy pillow matplotlib ipywidgets ipykernel safetensors tqdm
	$(VENV)-colab/bin/pip install -q -c $< clip-anytorch requests platformdirs defusedxml dlib-bin pytorch-optimizer \
	  nbclient pytest
	$(VENV)-colab/bin/python -m ipykernel install --sys-prefix --name python3
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements-dev.lock $(VENV)/installed
	$(call install,requirements-dev.txt)
	@command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium) >/dev/null 2>&1 || \
	  echo "Chromium is not here and cannot be installed: the browser tests are skipped."
	@touch $@
