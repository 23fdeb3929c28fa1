PYTHON ?= python

.PHONY: dev lint types test test-all examples bench wheel check

dev:  ## an editable install with everything that development needs
	$(PYTHON) -m pip install -e '.[dev]'

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:  ## of what ships: neither mypy nor pyright follows the package-dir mapping
	rm -rf build/types
	$(PYTHON) -m pip install --quiet --no-deps --target build/types .
	MYPYPATH=build/types $(PYTHON) -m mypy -p mnas

test:
	$(PYTHON) -m pytest -n 2 --dist loadfile

test-all:  ## the slow ones too
	$(PYTHON) -m pytest -n 2 --dist loadfile -m 'slow or not slow'

examples:
	$(PYTHON) -m pytest tests/test_examples.py

bench:  ## speed and memory; writes nothing
	$(PYTHON) benchmarks/speed.py

wheel:
	$(PYTHON) -m build --wheel

check: lint types test
