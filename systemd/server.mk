.PHONY: install-server
DESTDIR ?=

install-server: ## the inference server with its unit, on this machine (compiles it for release; wants root or sudo for the rest)
	$(CARGO) build --release --locked -p cerebrum-server
	@systemd/install-server.sh "$(DESTDIR)"
