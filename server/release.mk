# The server for any x86-64 of the last fifteen years (x86-64-v2), with builds for faster processors beside it. Included by the root
# Makefile.

.PHONY: release-server

RELEASE := $(CURDIR)/target/release-server
# Of ggml's options; those of AVX-512 mean Ice Lake, Zen 4 and later.
KERNELS_OLD := GGML_SSE42=ON GGML_AVX=OFF GGML_AVX2=OFF GGML_BMI2=OFF GGML_FMA=OFF GGML_F16C=OFF
KERNELS_AVX512 := GGML_AVX512=ON GGML_AVX512_VBMI=ON GGML_AVX512_VNNI=ON
# A reproducible build. It would switch ggml's kernels off, were they not asked for by name (.cargo/config.toml).
STAMP = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct)
BUILD = $(CARGO) build --locked --release -p cerebrum-server --bin cerebrum-server
# Whether a build has, or has not, what it is named for: `$(call has,file,AVX2)`.
has = "$(1)" kernels | grep -qw "$(2) = 1"

release-server: ## cerebrum-server for any x86-64 that takes faster kernels at run time, in target/release-server (three builds)
	@mkdir -p $(RELEASE)
	env $(STAMP) $(KERNELS_OLD) CARGO_TARGET_DIR=$(RELEASE)/any $(BUILD)
	env $(STAMP) CARGO_TARGET_DIR=$(RELEASE)/avx2 $(BUILD)
	env $(STAMP) $(KERNELS_AVX512) CARGO_TARGET_DIR=$(RELEASE)/avx512 $(BUILD)
	@install $(RELEASE)/any/release/cerebrum-server $(RELEASE)/cerebrum-server
	@install $(RELEASE)/avx2/release/cerebrum-server $(RELEASE)/cerebrum-server.avx2
	@install $(RELEASE)/avx512/release/cerebrum-server $(RELEASE)/cerebrum-server.avx512
	@$(MAKE) --no-print-directory release-server-check

# Each build has the kernels that it is named for, and the first goes over to the best for this machine.
.PHONY: release-server-check
release-server-check:
	@if $(call has,$(RELEASE)/any/release/cerebrum-server,AVX2); then \
		echo "release-server: found AVX2 in the build for any processor, expected none"; exit 1; fi
	@$(call has,$(RELEASE)/any/release/cerebrum-server,SSE3) || { echo "release-server: found no SSE3 in the build for any processor"; exit 1; }
	@for feature in AVX2 FMA F16C; do grep -qw $$feature /proc/cpuinfo -i || continue; \
		$(call has,$(RELEASE)/cerebrum-server.avx2,$$feature) || { echo "release-server: found no $$feature in the build for AVX2"; exit 1; }; \
		$(call has,$(RELEASE)/cerebrum-server,$$feature) || { echo "release-server: found no $$feature in use, which this processor has"; exit 1; }; \
	done
	@echo "release-server: $$($(RELEASE)/cerebrum-server kernels)"
