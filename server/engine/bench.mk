# The engine beside llama.cpp's own server. Included by the root Makefile.

.PHONY: bench-engine bench-engine-run soak

BENCH_ENGINE := $(CURDIR)/target/bench-engine
# A throw-away system with Debian's llama-server: its libraries are newer than those of most machines. Needs root.
BENCH_CHROOT := $(BENCH_ENGINE)/chroot
# Empty: the mirror that mmdebstrap takes by itself.
MIRROR ?=
SHAPE ?= llama
WEIGHTS ?= q8_0
SCALE ?= 0.5b
# Empty: as many as a model of that scale has. A slow machine reads the 2,048 tokens of `--parts prefix` in tolerable time with 6.
LAYERS ?=
BENCH_MODEL = $(BENCH_CHROOT)/models/$(SHAPE)-$(SCALE)$(addprefix -,$(LAYERS))-$(WEIGHTS).gguf

bench-engine: ## our server beside llama-server (needs root and mmdebstrap); SHAPE=qwen2 SCALE=1.5b WEIGHTS=q4_k LAYERS=6 ARGS="--threads 1 --parts edit"
	$(CARGO) build --locked --release -p cerebrum-server -p cerebrum-tests --bin cerebrum-server --bin bench-engine
	@$(MAKE) --no-print-directory bench-engine-run

bench-engine-run: $(BENCH_CHROOT)/usr/bin/llama-server
	@mkdir -p $(dir $(BENCH_MODEL))
	@test -f $(BENCH_MODEL) || target/release/bench-engine model --shape $(SHAPE) --weights $(WEIGHTS) \
		--scale $(SCALE) $(addprefix --layers ,$(LAYERS)) $(BENCH_MODEL)
	target/release/bench-engine run --model $(BENCH_MODEL) --server target/release/cerebrum-server \
		--chroot $(BENCH_CHROOT) $(ARGS)

MINUTES ?= 30

soak: ## mixed requests with cancellations against the real server for MINUTES=30: no leak, no lost slot, no wrong text
	$(CARGO) build --locked --release -p cerebrum-server -p cerebrum-tests --bin cerebrum-server --bin soak
	target/release/soak --minutes $(MINUTES) $(ARGS)

# The mirror's lists may be older than they say they are good for; the signatures are checked all the same.
$(BENCH_CHROOT)/usr/bin/llama-server:
	@command -v mmdebstrap >/dev/null || { echo "bench-engine: found no mmdebstrap (apt-get install mmdebstrap)"; exit 1; }
	@mkdir -p $(BENCH_ENGINE)
	mmdebstrap --variant=essential --include=llama.cpp-tools --aptopt='Acquire::Check-Valid-Until "false"' \
		testing $(BENCH_CHROOT) $(MIRROR)
