.PHONY: image image-lock image-check test-image

image: cross ## the board's flashable image, in target/image/out (packages locked by image-build/packages.lock)
	@image-build/build.sh

image-lock: ## takes the newest packages that Debian has for the image and writes down their versions and hashes
	@image-build/build.sh lock

image-check: image ## builds the image again from another folder, with another clock, and compares every byte
	@image-build/check.sh
