.PHONY: cross cross-board cross-server cross-check cross-lock prove-containers
# The server's builds: any x86-64-v2, and for processors with AVX2 or AVX-512.
KERNELS ?= any avx2 avx512
PROGRAMS ?= board $(KERNELS)

cross: cross-board cross-server ## both programs' releases, with Debian's compilers in target/debian: target/cross/aarch64, target/cross/x86_64

cross-board: ## the appliance's programs for aarch64 alone
	@cross/build.sh board

cross-server: ## the server for any x86-64-v2, with builds for AVX2 and AVX-512 beside it (llama.cpp: half an hour on two cores)
	@cross/build.sh $(KERNELS)
	@cross/debian.sh run -- /src/server/kernels.sh check /src/target/cross/x86_64

cross-check: ## builds them again from another folder and compares every byte (PROGRAMS="board any" for some)
	@cross/build.sh $(PROGRAMS)
	@cross/check.sh $(PROGRAMS)

cross-lock: ## takes the newest compilers that Debian has and writes down their versions
	@cross/debian.sh lock cross/toolchain.packages
	@cross/debian.sh lock cross/server.packages

prove-containers: ## compiles both programs in what the containers for cross-rs hold, where no container engine runs
	@cross/prove-containers.sh
