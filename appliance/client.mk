# The command-line client where a system has its programs, with what shells and `man` look for. Included by the root Makefile.

.PHONY: install-client
PREFIX ?= /usr/local
DESTDIR ?=
# One that is built already, for instance by a package's own rules; else it is built here.
CLIENT ?=

install-client: ## `cerebrum` with its completions and manual page, below $(DESTDIR)$(PREFIX) (default /usr/local; compiles for release)
	$(if $(CLIENT),,$(CARGO) build --locked --release -p cerebrum-appliance --bin cerebrum)
	@appliance/install-client.sh "$(or $(CLIENT),$(or $(CARGO_TARGET_DIR),target)/release/cerebrum)" "$(DESTDIR)$(PREFIX)"
