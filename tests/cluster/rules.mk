# tests/cluster/rules.mk - clusters of real processes with real etcd: tests/cluster/run.py
CLUSTER_RUN := tests/cluster/run.py --build $(BUILD)

.PHONY: cluster-quick cluster-full
cluster-quick: all
	$(Q)$(CLUSTER_RUN)
# every scenario, with large numbers: about 25 minutes
cluster-full: all
	$(Q)scripts/install-deps test
	$(Q)$(CLUSTER_RUN) --full

TEST_SUITES += "cluster=$(CLUSTER_RUN)"
ALONE += cluster
