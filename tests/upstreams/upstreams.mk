# Services that nobody here wrote, behind the appliance. Included by the root Makefile.

.PHONY: test-upstreams test-faults

UPSTREAMS := $(CURDIR)/target/upstreams

test-upstreams: $(BENCH_CHROOT)/usr/bin/llama-server $(UPSTREAMS)/installed ## llama-server, llama-cpp-python and a Ray Serve application behind the appliance (root, mmdebstrap, 2 GB)
	@mkdir -p $(BENCH_CHROOT)/models && cp models/cerebrum-tiny.gguf $(BENCH_CHROOT)/models/
	UPSTREAMS_CHROOT=$(BENCH_CHROOT) UPSTREAMS_PYTHON=$(UPSTREAMS)/python \
		$(CARGO) nextest run --locked --workspace -E "binary(upstreams)" --run-ignored only --no-capture

# Compiles llama.cpp once more, for Python: about ten minutes on two cores.
$(UPSTREAMS)/installed: tests/upstreams/requirements.txt
	python3 -m venv $(UPSTREAMS)/python
	CMAKE_ARGS="-DGGML_NATIVE=OFF" $(UPSTREAMS)/python/bin/pip install --quiet -r $<
	@touch $@

STREAMS ?= 200
SEED ?= 1

test-faults: ## 200 streams through bad weather; STREAMS=200 SEED=1
	FAULT_STREAMS=$(STREAMS) FAULT_SEED=$(SEED) $(CARGO) nextest run --locked --workspace -E "binary(faults)" --no-capture
