# Everything from a fresh clone: `make demo` and `make test` set up .venv themselves.

PYTHON ?= python3
VENV ?= .venv
# Where the CPU build of torch lies; a local copy of the wheel (pip's find-links) serves as well.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST_ARGS ?=
# Of this package. Tests for other machines need cross as well, 400 MB of zig.
EXTRAS ?= compile,tune,onnx,bench,train,dev
# Tests run side by side, one worker for each core; 0 for none.
PYTEST_WORKERS ?= auto

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALLED := $(VENV)/.installed
LINT := .cache/lint

# What `native` means in test-cpus, one after the other: lesser and other CPUs than the one that runs the tests.
CPUS ?= haswell skylake-avx512 sapphirerapids znver4 znver5
# Random cases: for how long, from which seed, and of which kind (all that there are, by default).
SECONDS ?= 600
SEED ?= 0
WHAT ?=

.PHONY: venv demo test test-cpus lint bench fuzz arm-python

venv: $(INSTALLED)

demo: $(INSTALLED)
	$(PY) -m tvm_fastconv.cli demo

test: $(INSTALLED)
	$(PY) -m pytest -n $(PYTEST_WORKERS) $(PYTEST_ARGS)

# What is chosen, scheduled and computed for other CPUs, in code that this one executes; one that it cannot stand in for
# is left out, with the reason.
test-cpus: $(INSTALLED)
	@for cpu in $(CPUS); do \
	    export FASTCONV_NATIVE_CPU=$$cpu; \
	    if reason=$$($(PY) -m tvm_fastconv.cli targets 2>&1 > /dev/null); then \
	        $(PY) -m pytest -n $(PYTEST_WORKERS) -m native $(PYTEST_ARGS) || exit 1; \
	    else \
	        echo "$$reason"; \
	        case "$$reason" in *"cannot stand in"*) echo "left out: $$cpu";; *) exit 1;; esac; \
	    fi; \
	done

# The type checker reads the package as a user gets it: one tree, in which a wrong relative import is an error.
lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	rm -rf build $(LINT)
	$(PIP) --no-deps --no-build-isolation --target $(LINT) .
	rm -rf build
	cd $(LINT) && $(abspath $(PY)) -m mypy --config-file $(abspath pyproject.toml) --cache-dir $(abspath .mypy_cache) -p tvm_fastconv

# A Python for AArch64, for the tests that execute one in qemu-aarch64. On Debian.
arm-python: $(INSTALLED)
	tests/arm/make_python.sh .cache/arm-python $(PY)

bench: $(INSTALLED)
	$(PY) -m benchmarks

fuzz: $(INSTALLED)
	$(PY) -m tests.fuzz --seconds $(SECONDS) --seed $(SEED) $(addprefix --what ,$(WHAT))

# torch early and alone: anything else that asks for it would bring the CUDA build, several gigabytes of it. The rivals
# come too, so that the demo shows them and the tests that need them run.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) "setuptools>=77"
	$(PIP) --no-deps --extra-index-url $(TORCH_INDEX) torch
	$(PIP) --no-build-isolation --editable ".[$(EXTRAS)]"
	$(PIP) --no-deps --extra-index-url $(TORCH_INDEX) torchvision pillow
	touch $@
