# Benchmark of prompt preparation. Included by the root Makefile; its heavy dependencies are behind the feature `bench`,
# so that nothing else ever compiles them.

.PHONY: bench-prep fuzz-prep

# Link-time optimisation of the whole workspace would double the build and change no figure by more than its noise.
bench-prep: export CARGO_PROFILE_RELEASE_LTO = off
bench-prep: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = 16
bench-prep: ## prompt preparation against its baselines; ARGS="--repo DIR --cases N --json FILE"
	$(CARGO) run --locked --release -q -p cerebrum-prompt --features bench --bin bench-prep -- $(ARGS)

fuzz-prep: ## fuzz prompt preparation; SECONDS_TO_RUN=300
	appliance/prompt/fuzz/run.sh $(or $(SECONDS_TO_RUN),300)
