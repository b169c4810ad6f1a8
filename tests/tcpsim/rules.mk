# Two TCP stacks and the network between them, simulated: `make tcpsim` is the quick set, `make tcpsim SEEDS=1..100000` a
# longer one; `make tcpsim-mutations` breaks the TCP on purpose and shows that the simulation notices.
TCPSIM := $(BUILD)/tests/tcpsim/tcpsim
TCPSIM_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/tcpsim/*.c))

$(TCPSIM): $(TCPSIM_OBJ) $(LIB)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

TCPSIM_RUN := $(TCPSIM) --seeds 1..5000

.PHONY: tcpsim tcpsim-mutations
tcpsim: $(TCPSIM)
	$(Q)$(TCPSIM) --seeds $(if $(filter command% environment%,$(origin SEEDS)),$(SEEDS),1..5000)

tcpsim-mutations:
	$(Q)tests/mutations.sh tcpsim 1..5000 spool dataplane cluster ctl

mutations: tcpsim-mutations

.PHONY: tcpsim-soak
tcpsim-soak: $(TCPSIM)
	$(Q)$(TCPSIM) --seeds $(SEEDS)

soak: tcpsim-soak

TEST_PROGRAMS += $(TCPSIM)
TEST_SUITES += "tcpsim=$(TCPSIM_RUN)"
ASAN_PROGRAMS += build-asan/tests/tcpsim/tcpsim
TEST_SUITES += "asan-tcpsim=build-asan/tests/tcpsim/tcpsim --seeds 20001..20300"
