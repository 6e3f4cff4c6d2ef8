.PHONY: install-server
DESTDIR ?=

install-server: ## the inference server with its unit, on this machine (compiles three builds for release; wants root or sudo for the rest)
# Elsewhere there is but one build: the processor's own instructions are always the same there.
ifeq ($(shell uname -m),x86_64)
	@$(MAKE) --no-print-directory release-server
	@systemd/install-server.sh target/release-server "$(DESTDIR)"
else
	$(CARGO) build --release --locked -p cerebrum-server
	@systemd/install-server.sh target/release "$(DESTDIR)"
endif
