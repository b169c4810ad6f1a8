# The simulator: `make sim` is the quick set, `make sim-soak SEEDS=1..100000` the long one, `make mutations` shows that
# breaking the promise on purpose turns it red.
SIM := $(BUILD)/tests/sim/sim
SIM_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/sim/*.c))
SEEDS ?= 1..20000

# The rooms of the spool without its threads; trace.c stands in for the log.
SIM_SPOOL := $(patsubst %.c,$(BUILD)/%.o,$(filter-out spool/base/log.c,$(wildcard spool/*/*.c)))
$(SIM): $(SIM_OBJ) $(SIM_SPOOL)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

SIM_RUNNER := $(SIM)
SIM_RUN := $(SIM) --seeds 1..2500 --cuts 6

.PHONY: sim sim-soak mutations
sim: $(SIM)
	$(Q)$(SIM_RUN)

sim-soak: $(SIM)
	$(Q)$(SIM) --seeds $(SEEDS) --cuts 20

mutations:
	$(Q)OPTIONS='--cuts 2' tests/mutations.sh sim 1..10000 spool

TEST_PROGRAMS += $(SIM_RUNNER)
TEST_SUITES += "sim=$(SIM_RUN)"
