# bench/rules.mk - the load generator, the counting sink and the benchmark.  Shared code is in bench/lib.
BENCH_LIB := $(patsubst %.c,$(BUILD)/%.o,$(wildcard bench/lib/*.c))
$(addprefix $(BUILD)/bin/satchel-,$(BENCH)): $(BENCH_LIB)

.PHONY: bench bench-cluster bench-tools
bench-tools: $(addprefix $(BUILD)/bin/satchel-,$(BENCH))
# QUICK=1: under two minutes, with smaller numbers
bench: deps-test
	$(Q)$(BUILD_MAKE) all
	$(Q)bench/run $(if $(QUICK),--quick) --build $(BUILD)
# QUICK=1: some two minutes, with smaller numbers
bench-cluster:
	$(Q)scripts/install-deps cluster
	$(Q)$(BUILD_MAKE) all
	$(Q)bench/run-cluster $(if $(QUICK),--quick) --build $(BUILD)
$(BUILD)/tests/unit/test_bench: $(BENCH_LIB)
