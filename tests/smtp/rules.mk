# SMTP scenarios: each *.smtp file holds several, run whole, byte by byte, and cut in two at every place; without a wire
# and over each transport, with the same replies and the same spool.
SMTP_TEST_SRC := $(wildcard tests/smtp/*.c)
$(BUILD)/tests/smtp/run_scenarios: $(SMTP_TEST_SRC:%.c=$(BUILD)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

SMTP_RUNNER := $(BUILD)/tests/smtp/run_scenarios
SMTP_WIRES := direct io_uring epoll
SMTP_RUN = $(SMTP_RUNNER) --wire $(1) $(wildcard tests/smtp/*.smtp)
SMTP_SUITES = $(foreach w,$(SMTP_WIRES),"smtp-$(w)=$(call SMTP_RUN,$(w))")

.PHONY: smtp
smtp: $(SMTP_RUNNER)
	$(Q)$(foreach w,$(SMTP_WIRES),$(call SMTP_RUN,$(w)) &&) true
