# What faces the Internet, under libFuzzer: `make fuzz SECONDS=60` looks for new inputs, `fuzz-stack` for the userspace
# TCP/IP alone, `fuzz-smtp` for a session; from those of tests/fuzz/corpus/NAME and build-fuzz/corpus/NAME on.  The
# committed ones are replayed in `make test`.  What it finds is added as corpus/NAME/found-WHAT.
FUZZ_BUILD := build-fuzz
FUZZERS := stack smtp
FUZZ_BASE := spool/base/log.c spool/base/err.c spool/base/clock.c spool/base/rng.c
FUZZ_SRC_stack := tests/fuzz/fuzz_stack.c tests/fuzz/peers.c tests/tcpsim/decode.c $(wildcard dataplane/tcp/*.c) $(FUZZ_BASE)
FUZZ_SRC_smtp := tests/fuzz/fuzz_smtp.c $(addprefix tests/smtp/,fake.c listed.c wire_direct.c) \
    $(filter-out dataplane/smtp/server.c dataplane/smtp/client%,$(wildcard dataplane/smtp/*.c)) \
    $(addprefix dataplane/conf/,recipients_text.c recipients_file.c) spool/format/msgid.c $(wildcard spool/base/*.c)
FUZZ_FLAGS := -std=gnu11 -D_GNU_SOURCE -I. $(WARN) -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=all
# Not every clang has libFuzzer beside it; without it the replay is skipped, by name.
FUZZ_CAN := $(wildcard $(shell clang -print-resource-dir 2>/dev/null)/lib/*/libclang_rt.fuzzer-*.a)
FUZZ_PROGRAMS := $(FUZZERS:%=$(FUZZ_BUILD)/fuzz_%)

$(FUZZ_BUILD)/fuzz_stack: $(FUZZ_SRC_stack)
$(FUZZ_BUILD)/fuzz_smtp: $(FUZZ_SRC_smtp)
$(FUZZ_PROGRAMS): $(FUZZ_BUILD)/fuzz_%: $(wildcard dataplane/*/*.h spool/*.h spool/*/*.h tests/tcpsim/*.h tests/smtp/*.h tests/fuzz/*.h)
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) $(FUZZ_SRC_$*) -o $@ $(shell pkg-config --libs libsodium libsystemd jansson libzstd)

.PHONY: fuzz $(FUZZERS:%=fuzz-%)
fuzz: $(FUZZERS:%=fuzz-%)
$(FUZZERS:%=fuzz-%): fuzz-%: $(FUZZ_BUILD)/fuzz_%
	$(Q)mkdir -p $(FUZZ_BUILD)/corpus/$*
	$(Q)cd $(FUZZ_BUILD) && ./fuzz_$* -max_total_time=$(or $(SECONDS),60) -timeout=10 -max_len=600 -rss_limit_mb=4096 \
	    corpus/$* ../tests/fuzz/corpus/$*

TEST_PROGRAMS += $(if $(FUZZ_CAN),$(FUZZ_PROGRAMS))
TEST_SUITES += $(foreach f,$(FUZZERS),"fuzz-$(f)=tests/fuzz/replay $(FUZZ_BUILD)/fuzz_$(f) tests/fuzz/corpus/$(f)")
