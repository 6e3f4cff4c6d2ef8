# Benchmark of prompt preparation. Included by the root Makefile; its heavy dependencies are behind the feature `bench`,
# so that nothing else ever compiles them.

.PHONY: bench-prep bench-prep-speed fuzz-prep

# Link-time optimisation of the whole workspace would double the build and change no figure by more than its noise.
bench-prep bench-prep-speed: export CARGO_PROFILE_RELEASE_LTO = off
bench-prep bench-prep-speed: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = 16
bench-prep: ## prompt preparation against its baselines; ARGS="--repo DIR --cases N --json FILE"
	$(CARGO) run --locked --release -q -p cerebrum-prompt --features bench --bin bench-prep -- $(ARGS)

bench-prep-speed: ## its time by size and for hostile texts, measured by criterion beside the classic profile and text-splitter; ARGS="8k"
	$(CARGO) bench --locked -q -p cerebrum-prompt --features bench --bench speed -- $(ARGS)

fuzz-prep: ## fuzz prompt preparation; SECONDS_TO_RUN=300
	appliance/prompt/fuzz/run.sh $(or $(SECONDS_TO_RUN),300)
