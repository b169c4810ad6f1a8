# bench/rules.mk - the load generator, the counting sink and the benchmark.  Shared code is in bench/lib.
BENCH_LIB := $(patsubst %.c,$(BUILD)/%.o,$(wildcard bench/lib/*.c))
$(addprefix $(BUILD)/bin/satchel-,$(BENCH)): $(BENCH_LIB)

.PHONY: bench bench-cluster bench-dpdk soak-conns bench-tools
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
# QUICK=1: some two minutes, with smaller numbers
bench-dpdk: deps-test
	$(Q)$(BUILD_MAKE) all
	$(Q)bench/run-dpdk $(if $(QUICK),--quick) --build $(BUILD)
# CONNS connections held over memif for SECONDS, each asked at least once
CONNS ?= 1000000
SOAK_RUN = bench/run-dpdk --build $(BUILD) --only soak --connections
soak-conns: deps-test
	$(Q)$(BUILD_MAKE) all
	$(Q)$(SOAK_RUN) $(CONNS) --seconds $(or $(SECONDS),60)
# ... and a smaller one where there is DPDK
TEST_SUITES += $(if $(DPDK),"conns=$(SOAK_RUN) 50000 --seconds 1")
ALONE += $(if $(DPDK),conns)
$(addprefix $(BUILD)/tests/unit/,test_bench test_wire): $(BENCH_LIB)
