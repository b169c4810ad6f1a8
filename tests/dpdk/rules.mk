# satcheld on DPDK's virtual devices with Linux as its peer: tests/dpdk/run.py.  Root and namespaces, or it is skipped.
DPDK_TEST_RUN := tests/dpdk/run.py --build $(BUILD)

.PHONY: dpdk-test
dpdk-test: all
	$(Q)$(DPDK_TEST_RUN)

TEST_SUITES += "dpdk=$(DPDK_TEST_RUN)"
ALONE += dpdk
