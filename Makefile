# Everything a newcomer needs: `make demo` and `make test`. Python 3.11+ and make are the only requirements.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
WORKERS ?= 3

.PHONY: setup demo demo-kafka test check bench lock clean

setup: $(STAMP)

# Hash-checked, so that a changed or substituted package stops the set-up.
$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup
	$(BIN)/gateway demo $(DEMO)

# The same story and three agencies more, over a real Kafka: Java 17 and Maven are needed as well (deploy/kafka).
demo-kafka: setup
	$(BIN)/python -m deploy.kafka.broker --port 0 $(BIN)/gateway demo --kafka {kafka} $(DEMO)

# Most tests wait for something, so that three at a time keep two processors busy; what measures time comes last, alone.
# A file's tests share a worker, with the broker that they start; the order is that of tests/conftest.py.
# What fails beside others runs once more by itself, and what counts losses several times (tests/again.py).
test: setup
ifdef TESTS
	$(BIN)/python -m pytest $(TESTS)
else
	$(BIN)/python -m pytest --cache-clear -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not quiet" || $(BIN)/python -m tests.again $$?
	$(BIN)/python -m pytest --cache-clear -m quiet || $(BIN)/python -m tests.again $$?
endif

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict schemas adapters policies deploy/container deploy/prometheus/prometheus.yml deploy/prometheus/agent.yml deploy/prometheus/rules
	$(BIN)/hadolint deploy/container/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/container/compose.yaml
	$(BIN)/python -m pytest -q tests/architecture tests/docs
	$(BIN)/gateway check

bench: setup
	$(BIN)/python -m tests.benchmarks.exchange
	$(BIN)/python -m tests.benchmarks.documents

# Only for maintainers: writes the lock files anew (needs `pip install uv`).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command "make lock" -o requirements/serve.txt pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command "make lock" --extra dev -c requirements/serve.txt -o requirements/dev.txt pyproject.toml

clean:
	rm -rf $(VENV) demo-data .mypy_cache .ruff_cache .pytest_cache .hypothesis
