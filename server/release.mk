# The server for any x86-64 of the last fifteen years (x86-64-v2), with builds for faster processors beside it. Included by the root
# Makefile.

.PHONY: release-server

RELEASE := $(CURDIR)/target/release-server
# A reproducible build. It would switch ggml's kernels off, were they not asked for by name (server/kernels.sh).
STAMP = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct)
BUILD = $(CARGO) build --locked --release -p cerebrum-server --bin cerebrum-server

release-server: ## cerebrum-server for any x86-64 that takes faster kernels at run time, in target/release-server (three builds)
	@mkdir -p $(RELEASE)
	set -e; for kernels in any avx2 avx512; do \
		env $(STAMP) $$(server/kernels.sh options $$kernels) CARGO_TARGET_DIR=$(RELEASE)/$$kernels $(BUILD); done
	@install $(RELEASE)/any/release/cerebrum-server $(RELEASE)/cerebrum-server
	@install $(RELEASE)/avx2/release/cerebrum-server $(RELEASE)/cerebrum-server.avx2
	@install $(RELEASE)/avx512/release/cerebrum-server $(RELEASE)/cerebrum-server.avx512
	@server/kernels.sh check $(RELEASE)
