# make run    open napari with a sample fundus and the Segment widget
# make test   everything the fast tests need, then the fast tests
# make test-pyside   the tests of the windows under PySide6, in a second environment
# make docs   the site of the documentation, into build/docs
PYTHON ?= python3
BIN := .venv/bin
DISPLAYED = $(if $(shell command -v xvfb-run),xvfb-run -a -s "-screen 0 1600x1000x24")

WORKERS ?= 2
TESTS = $(DISPLAYED) $(BIN)/python -m pytest --numprocesses $(WORKERS)

.PHONY: run test test-all test-pyside check bench docs clean

run: .venv/run.stamp
	@$(BIN)/python -m napari_msankd

test: check
	$(TESTS) -m "not slow"

test-all: check
	$(TESTS)

test-pyside: .venv-pyside/test.stamp
	QT_API=pyside6 PYTEST_QT_API=pyside6 $(DISPLAYED) .venv-pyside/bin/python -m pytest tests/gui -m "not slow"

check: .venv/test.stamp
	@.ci/system-packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/npe2 validate napari.yaml

bench: .venv/test.stamp
	$(DISPLAYED) $(BIN)/python -m tests.bench

docs: .venv/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/torch.stamp: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r constraints.txt
	@touch $@

.venv/run.stamp: .venv/torch.stamp setup.cfg
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[pyqt6]'
	@touch $@

.venv/test.stamp: .venv/torch.stamp setup.cfg
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[pyqt6,test]'
	@touch $@

.venv-pyside/test.stamp: constraints.txt setup.cfg
	$(PYTHON) -m venv .venv-pyside
	.venv-pyside/bin/python -m pip install --quiet -r constraints.txt
	.venv-pyside/bin/python -m pip install --quiet -c constraints.txt -e '.[pyside6,test]'
	@touch $@

# The pages are made without importing the packages.
.venv/docs.stamp: .venv/torch.stamp setup.cfg
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[pyqt6,docs]'
	@touch $@

clean:
	rm -rf .venv .venv-pyside build dist *.egg-info
