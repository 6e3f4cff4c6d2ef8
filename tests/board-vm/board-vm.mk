.PHONY: test-board-vm

test-board-vm: cross-board ## the cross-built daemon on an emulated Raspberry Pi: buttons, exact pictures, lamps (about 10 minutes the first time)
	@tests/board-vm/pack.sh
	$(CARGO) build --locked -p cerebrum-server -p cerebrum-tests --bin cerebrum-server --bin board-vm
	timeout --kill-after=20 1200 target/debug/board-vm
