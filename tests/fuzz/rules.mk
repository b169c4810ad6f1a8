# The stack under libFuzzer: `make fuzz SECONDS=60` looks for new inputs, from those of tests/fuzz/corpus and
# build-fuzz/corpus on; the committed ones are replayed in `make test`.  What it finds is added as corpus/found-NAME.
FUZZ_BUILD := build-fuzz
FUZZ := $(FUZZ_BUILD)/fuzz_stack
FUZZ_SRC := $(wildcard tests/fuzz/*.c) tests/tcpsim/decode.c $(wildcard dataplane/tcp/*.c) \
    spool/base/log.c spool/base/err.c spool/base/clock.c spool/base/rng.c
FUZZ_FLAGS := -std=gnu11 -D_GNU_SOURCE -I. $(WARN) -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=all
# Not every clang has libFuzzer beside it; without it the replay is skipped, by name.
FUZZ_CAN := $(wildcard $(shell clang -print-resource-dir 2>/dev/null)/lib/*/libclang_rt.fuzzer-*.a)

$(FUZZ): $(FUZZ_SRC) $(wildcard dataplane/tcp/*.h tests/tcpsim/*.h tests/fuzz/*.h)
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) $(FUZZ_SRC) -o $@ $(shell pkg-config --libs libsodium libsystemd)

.PHONY: fuzz
fuzz: $(FUZZ)
	$(Q)mkdir -p $(FUZZ_BUILD)/corpus
	$(Q)cd $(FUZZ_BUILD) && ./fuzz_stack -max_total_time=$(or $(SECONDS),60) -timeout=10 -max_len=600 -rss_limit_mb=2048 \
	    corpus ../tests/fuzz/corpus

TEST_PROGRAMS += $(if $(FUZZ_CAN),$(FUZZ))
TEST_SUITES += "fuzz=tests/fuzz/replay $(FUZZ)"
