# Everything runs from .venv, which plain pip builds from the hashed lock the first time and which is left alone after.
PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.ready

.PHONY: install run test soak lock clean

install: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Bridge needs Python 3.11 or newer; this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install            ## everything on this machine, with the sandbox as every broker
	@exec $(VENV)/bin/bridge up --sandbox $(ARGS)

test: install           ## checks and tests
	$(VENV)/bin/ruff check bridge tests
	$(VENV)/bin/mypy --strict bridge
	$(VENV)/bin/python -m pytest $(ARGS)

soak: install           ## kill it at random and hold it to its promises; ARGS=--help tells more
	@$(VENV)/bin/python -m tests.soak $(ARGS)

lock: install           ## resolve the dependencies anew (with Python 3.11.2 or older: it needs the most of them)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check pip-tools
	$(VENV)/bin/pip-compile --quiet --strip-extras --extra test --allow-unsafe --generate-hashes \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --output-file requirements.lock pyproject.toml

clean:                  ## forget what was built; the data in .bridge stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
