# SMTP scenarios: each *.smtp file holds several, run whole, byte by byte, and cut in two at every place; without a wire
# and over each transport, with the same replies and the same spool.
SMTP_TEST_SRC := $(wildcard tests/smtp/*.c)
$(BUILD)/tests/smtp/run_scenarios: $(SMTP_TEST_SRC:%.c=$(BUILD)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

SMTP_RUNNER := $(BUILD)/tests/smtp/run_scenarios
SMTP_WIRES := direct io_uring epoll user
SMTP_RUN = $(SMTP_RUNNER) --wire $(1) $(wildcard tests/smtp/*.smtp)
SMTP_SUITES = $(foreach w,$(SMTP_WIRES),"smtp-$(w)=$(call SMTP_RUN,$(w))")
# With a sanitizer not each place of a cut: a place costs ten times as much.
SMTP_ASAN_RUNNER := build-asan/tests/smtp/run_scenarios
SMTP_ASAN_SUITES = $(foreach w,$(SMTP_WIRES),"asan-smtp-$(w)=$(SMTP_ASAN_RUNNER) --wire $(w) --cuts 5 $(wildcard tests/smtp/*.smtp)")

.PHONY: smtp
smtp: $(SMTP_RUNNER)
	$(Q)$(foreach w,$(SMTP_WIRES),$(call SMTP_RUN,$(w)) &&) true

CHECK_PROGRAMS += $(SMTP_RUNNER)
CHECK_SUITES += $(SMTP_SUITES)
ASAN_PROGRAMS += $(SMTP_ASAN_RUNNER)
TEST_SUITES += $(SMTP_ASAN_SUITES)
