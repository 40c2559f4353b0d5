# What a developer does. A command is written here, or where the line above it says.

.PHONY: build test lint format bench site nightly clean

# Again after a change in csrc/ or a .pyx.
build:
	pip install -e '.[test,lint]'

# As in README.md, where .ci/run reads it.
test:
	pytest -n auto --dist worksteal

C = git ls-files 'csrc/*.[ch]' 'csrc/*.inc' 'tests/c/*.[ch]' 'bench/arm/*.c'

# .ci/run and pre-commit call this.
lint:
	ruff check .
	ruff format --check .
	$(C) | xargs clang-format --dry-run --Werror
	codespell
	mypy

# What lint can mend by itself.
format:
	ruff check --fix .
	ruff format .
	$(C) | xargs clang-format -i

# Kernels and layers, per instruction set; bench/README.md says how to read them.
bench:
	pytest bench --benchmark-only

# The documentation, in build/site/html. Needs Python 3.11 and `pip install -e '.[docs]'`. NOTEBOOKS=--notebooks adds
# notebooks that have run; they need matplotlib, scikit-learn and statsmodels, too.
site:
	python docs/site/build.py $(NOTEBOOKS)

# What is slow and rare: every float, sanitizers, a long fuzz with a seed of the day, each emulated processor.
nightly:
	pytest -n auto --dist worksteal -m slow
	PYTHONPATH=tests/helpers python tests/weights/test_fuzz.py 100000 $$(date +%Y%j)
	for kind in $$(PYTHONPATH=.:tests/helpers python -c 'import fuzz_kinds; print(*fuzz_kinds.KINDS)'); do \
		python tests/fuzz/fuzz.py $$kind --mutations 100000 $$(date +%Y%j) || exit 1; done
	tests/arm/run.sh --all

clean:
	rm -rf build dist *.egg-info tinyrnn/_*.c tinyrnn/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
