# What a person types. `make lab` and `make test` need only Rust, make and Python 3.

.PHONY: help lab test bench p4 fuzz conformance clean

help:
	@echo 'make lab    three gateways, three routers and two clients on this machine, in one go'
	@echo 'make test   everything a plain machine can check: format, lints, unit, property, PTF, whole system'
	@echo 'make bench  speed, beside BMv2 and etcd where they are on PATH; rewrites docs/benchmarks.md'
	@echo '            MAPS=DIR: and how far off network coordinates are on the Rocketfuel maps there'
	@echo 'make conformance  our programs on the embedded switch and on BMv2, compared (needs simple_switch_grpc on PATH)'
	@echo 'make fuzz   ten minutes of each fuzzer of the embedded switch'
	@echo 'make p4     recompile p4src/ into bmv2-configs/ (needs p4c on PATH)'

lab:
	cargo run --quiet --release --bin dmux -- lab $(ARGS)

test:
	python3 tools/test.py $(ARGS)

bench:
	cargo build --quiet --release --bin dmux --bin dmux-bench
	cargo run --quiet --release --bin dmux-bench -- $(ARGS)
	if [ -n "$(MAPS)" ]; then cargo run --quiet --release --bin dmux-bench -- rocketfuel "$(MAPS)"; fi

p4:
	p4src/compile.sh

conformance:
	cargo build --quiet --release -p dmux-conformance
	cargo run --quiet --release -p dmux-conformance -- stf softswitch/tests/programs --bmv2
	cargo run --quiet --release -p dmux-conformance -- diff $(ARGS)

fuzz:
	cargo build --quiet --release -p dmux-conformance
	for what in json packets; do \
	    cargo run --quiet --release -p dmux-conformance -- fuzz $$what $(ARGS) || exit 1; \
	done
	DMUX_FUZZ_SECONDS=600 cargo test --quiet --release -p dmux-softswitch --test p4runtime_oracle

clean:
	cargo clean
	rm -rf .venv ptf-tests/build
