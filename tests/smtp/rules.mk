# SMTP scenarios: each *.smtp file holds several, run whole, byte by byte, and cut in two at every place.
SMTP_TEST_SRC := $(wildcard tests/smtp/*.c)
$(BUILD)/tests/smtp/run_scenarios: $(SMTP_TEST_SRC:%.c=$(BUILD)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

SMTP_RUNNER := $(BUILD)/tests/smtp/run_scenarios
SMTP_RUN := $(SMTP_RUNNER) $(wildcard tests/smtp/*.smtp)

.PHONY: smtp
smtp: $(SMTP_RUNNER)
	$(Q)$(SMTP_RUN)
