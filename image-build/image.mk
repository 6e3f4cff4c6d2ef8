.PHONY: image image-lock image-check test-image

image: cross-board ## the board's flashable image, in target/image/out (packages locked by image-build/packages.lock)
	@image-build/build.sh

image-lock: ## takes the newest packages that Debian has for the image and writes down their versions and hashes
	@image-build/build.sh lock

image-check: image ## builds the image again from another folder, with another clock, and compares every byte
	@image-build/check.sh

test-image: image ## the image itself on an emulated Raspberry Pi: settings, a prompt, read-only root, updates (some two and a half hours)
	@cross/debian.sh install tests/board-vm/tools.packages
	@tests/image-vm/board.sh
	$(CARGO) build --locked -p cerebrum-server -p cerebrum-tests --bin cerebrum-server --bin image-vm
	timeout --kill-after=20 18000 target/debug/image-vm
