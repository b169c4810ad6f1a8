# The simulator of a cluster: `make csim` is the quick set, `make soak SEEDS=1..100000` the long one, `make
# csim-mutations` shows that breaking a promise on purpose turns it red.
CSIM := $(BUILD)/tests/csim/csim
CSIM_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/csim/*.c))
CSIM_HOUSE := $(patsubst %,$(BUILD)/tests/sim/%.o,house ledger simdisk trace twin)
# The cores of a node, without what does I/O; trace.c stands in for the log.
CSIM_CLUSTER := $(patsubst %.c,$(BUILD)/%.o,cluster/coord/kvstore.c cluster/link/fbuf.c cluster/link/frame.c cluster/node.c \
    $(wildcard cluster/map/*.c cluster/copies/*.c cluster/own/*.c cluster/shared/*.c))
CSIM_SPOOL := $(patsubst %.c,$(BUILD)/%.o,$(filter-out spool/base/log.c,$(wildcard spool/*/*.c)))

$(CSIM): $(CSIM_OBJ) $(CSIM_HOUSE) $(CSIM_CLUSTER) $(CSIM_SPOOL)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

CSIM_RUNNER := $(CSIM)
CSIM_RUN := $(CSIM) --seeds 1..1500 --house-seeds 1..300

.PHONY: csim soak csim-mutations
csim: $(CSIM)
	$(Q)$(CSIM_RUN)

soak: $(CSIM) $(SIM)
	$(Q)$(CSIM) --seeds $(SEEDS) --house-seeds $(SEEDS)
	$(Q)$(SIM) --seeds $(SEEDS) --cuts 20

csim-mutations:
	$(Q)tests/mutations.sh csim 1..10000 spool cluster tests/sim

TEST_PROGRAMS += $(CSIM_RUNNER)
TEST_SUITES += "csim=$(CSIM_RUN)"
