# satcheld on DPDK's virtual devices with Linux as its peer, also over a wire that loses, doubles, reorders and damages:
# tests/dpdk/run.py.  Root and namespaces, or it is skipped.
IMPAIR := $(BUILD)/tests/dpdk/impair
$(IMPAIR): $(BUILD)/tests/dpdk/impair.o $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

DPDK_TEST_RUN := tests/dpdk/run.py --build $(BUILD)

.PHONY: dpdk-test dpdk-full
dpdk-test: all $(IMPAIR)
	$(Q)$(DPDK_TEST_RUN)

# Every option of Linux's TCP with every other, and a virtual machine with NICs: some twenty minutes
dpdk-full: all $(IMPAIR) $(patsubst %,$(BUILD)/tests/unit/test_%,disk seglog spool transport)
	$(Q)$(DPDK_TEST_RUN) --full

TEST_PROGRAMS += $(IMPAIR)
TEST_SUITES += "dpdk=$(DPDK_TEST_RUN)"
ALONE += dpdk
