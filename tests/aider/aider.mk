# aider edits a file through the appliance. Included by the root Makefile.

.PHONY: test-aider

AIDER := $(CURDIR)/target/aider

test-aider: $(AIDER)/installed ## aider from PyPI edits a file through the appliance (installs 700 MB in some minutes)
	$(CARGO) nextest run --locked --workspace -E "binary(aider)" --run-ignored only --no-capture

$(AIDER)/installed: tests/aider/requirements.txt
	python3 -m venv $(AIDER)/python
	$(AIDER)/python/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@
