.PHONY: cross cross-check cross-lock

cross: ## the appliance's programs for aarch64, in target/cross/aarch64 (makes a Debian with compilers in target/debian)
	@cross/build.sh

cross-check: cross ## builds them again from another folder and compares every byte
	@cross/check.sh

cross-lock: ## takes the newest compilers that Debian has and writes down their versions
	@cross/debian.sh lock cross/toolchain.packages
