# Benchmarks of both real programs. Included by the root Makefile.

.PHONY: bench-gateway

# All processes share one core by default: waking another, idle core of a virtual machine costs more than everything
# that is measured here. CORES=0-1 leaves the choice to the kernel.
CORES ?= 0

bench-gateway: export PATH := $(PATH):/usr/sbin
bench-gateway: ## what the appliance adds to a request, beside nginx; CORES=0-1 ARGS="--rounds N"
	@command -v nginx >/dev/null || ./setup.sh nginx
	$(CARGO) build --locked --release -p cerebrum-appliance -p cerebrum-tests --bin cerebrumd --bin bench-gateway
	taskset --cpu-list $(CORES) target/release/bench-gateway --json bench-out/gateway.json $(ARGS)
