# Packet scripts for the userspace TCP/IP: each tests/pkt/*.pkt runs over IPv4 and IPv6, near the wrap, and truncated.
# `make pkt SAN=asan` places each frame at the end of its block and finds every byte read beyond.
PKT_SRC := $(wildcard tests/pkt/*.c)
PKT_RUNNER := $(BUILD)/pkt/run
$(PKT_RUNNER): $(PKT_SRC:%.c=$(BUILD)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

PKT_RUN := $(PKT_RUNNER) tests/pkt

.PHONY: pkt
pkt: $(PKT_RUNNER)
	$(Q)$(PKT_RUN)

CHECK_PROGRAMS += $(PKT_RUNNER)
CHECK_SUITES += "pkt=$(PKT_RUN)"
ASAN_PROGRAMS += build-asan/pkt/run
TEST_SUITES += "asan-pkt=build-asan/pkt/run tests/pkt"
