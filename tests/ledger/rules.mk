# tests/ledger/rules.mk - the promise with real programs: tests/ledger/run.py
LEDGER_RUN := tests/ledger/run.py --build $(BUILD)

.PHONY: ledger
ledger: all
	$(Q)$(LEDGER_RUN)

TEST_SUITES += "ledger=$(LEDGER_RUN)"
ALONE += ledger
