# Satchel.  `make help` lists the targets.
#
#   SAN=asan | tsan | (none)   builds with AddressSanitizer + UBSan, or ThreadSanitizer, in a build directory of its own
#   V=1                        shows the commands

SAN ?=
comma := ,
BUILD := build$(if $(SAN),-$(SAN))
Q := $(if $(V),,@)
CC := gcc
PKGS := liburing libcares yaml-0.1 libmicrohttpd libsodium libxxhash libsystemd smartcols libcurl jansson openssl libzstd

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wvla \
        -Wformat=2 -Wwrite-strings -Wold-style-definition -Wimplicit-fallthrough
# A sanitizer's report needs lines and names, not speed; -O1 compiles in two thirds of the time, gold links in a quarter.
OPT := $(if $(SAN),-O1 -g1,-O2 -g) -fno-omit-frame-pointer
SANFLAGS := $(if $(filter asan,$(SAN)),-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all) \
            $(if $(filter tsan,$(SAN)),-fsanitize=thread)
# GCC clears and copies some hundred bytes by `rep stos` and `rep movs`, microcode that waits for all that is under way
# in the processor: a frame of a connection whose memory is not there yet cost 50 to 100 ns more.
MEMOPS := $(if $(findstring x86_64,$(shell $(CC) -dumpmachine)),$(foreach op,memset memcpy,\
            -m$(op)-strategy=unrolled_loop:256:noalign$(comma)libcall:-1:noalign))
HARDEN := $(if $(SAN),,-D_FORTIFY_SOURCE=2 -fstack-protector-strong)
CFLAGS := -std=gnu11 -D_GNU_SOURCE -I. -pthread $(WARN) $(OPT) $(MEMOPS) $(SANFLAGS) $(HARDEN) $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDFLAGS := -pthread $(SANFLAGS) $(if $(SAN),-fuse-ld=gold) -Wl,-z,relro,-z,now
LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lrocksdb
# What builds for the user takes all processors, unless make was told how many.
BUILD_MAKE = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

# The DPDK port is built where DPDK is installed; its headers warn, and want flags that nobody else does
DPDK := $(shell pkg-config --exists libdpdk 2>/dev/null && echo yes)
ifneq ($(DPDK),)
LIBS += $(shell pkg-config --libs libdpdk)
$(BUILD)/dataplane/net/port_dp%.o: CFLAGS += $(patsubst -I%,-isystem %,$(shell pkg-config --cflags libdpdk))
endif

# ---- what is built
SPOOL_SRC := $(wildcard spool/*.c spool/*/*.c)
DATA_SRC  := $(filter-out dataplane/satcheld.c $(if $(DPDK),%/port_none.c,$(wildcard dataplane/net/port_dpdk*.c)), \
             $(wildcard dataplane/*.c dataplane/*/*.c))
CLUSTER_SRC := $(wildcard cluster/*.c cluster/*/*.c)
CTL_LIB_SRC := $(filter-out ctl/satchelctl.c,$(wildcard ctl/*.c))
LIB_SRC   := $(SPOOL_SRC) $(DATA_SRC) $(CLUSTER_SRC) $(CTL_LIB_SRC)
LIB_OBJ   := $(LIB_SRC:%.c=$(BUILD)/%.o)
LIB       := $(BUILD)/libsatchel.a
BENCH     := $(patsubst bench/%.c,%,$(wildcard bench/*.c))
BINS      := $(addprefix $(BUILD)/bin/,$(if $(wildcard dataplane/satcheld.c),satcheld) $(if $(wildcard ctl/satchelctl.c),satchelctl) $(addprefix satchel-,$(BENCH)))
UNIT_SRC  := $(wildcard tests/unit/test_*.c)
UNIT      := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/unit/%)

.PHONY: all
all: $(BINS)

# ---- dependencies: nothing is asked of the machine when they are there
.PHONY: deps deps-test
deps:
	$(Q)scripts/install-deps build
deps-test:
	$(Q)scripts/install-deps test

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

# Made anew when DPDK was installed or removed: no object changes then
WITH := $(BUILD)/with-dpdk-$(if $(DPDK),yes,no)
$(WITH):
	@mkdir -p $(@D)
	@rm -f $(BUILD)/with-dpdk-* && touch $@

$(LIB): $(LIB_OBJ) $(WITH)
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJ)

$(BUILD)/bin/satcheld: $(BUILD)/dataplane/satcheld.o $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

$(BUILD)/bin/satchelctl: $(BUILD)/ctl/satchelctl.o $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

# bench/gen.c -> satchel-gen, bench/sink.c -> satchel-sink: each a program of one file beside the library
$(BUILD)/bin/satchel-%: $(BUILD)/bench/%.o $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(LIB) -o $@ $(LIBS)

# One program a unit test; a test may include the .c it looks into
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(LIB)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(LIB) -o $@ -lcmocka $(LIBS)

.PHONY: unit
unit: $(UNIT)

.SECONDARY: # keep objects of tests between runs

# ---- each kind of test, and the benchmark, brings its own rules, and adds itself to what `make test` builds and runs:
#   CHECK_PROGRAMS, CHECK_SUITES   also in `make check`: seconds
#   TEST_PROGRAMS, TEST_SUITES     in `make test` alone;  ASAN_PROGRAMS: built with AddressSanitizer for it, as build-asan/...
#   ALONE                          names of suites that run after all others, one at a time
ALONE :=
include $(wildcard tests/*/rules.mk) bench/rules.mk

mutations: csim-mutations

# ---- run it.  What is installed first changes what pkg-config says: hence a make of its own for the build
.PHONY: run
run:
	$(Q)scripts/install-deps $(if $(NODES),cluster,build)
	$(Q)$(BUILD_MAKE) -s all
	$(Q)$(if $(NODES),scripts/run-cluster $(NODES),scripts/run)

.PHONY: demo
demo: deps-test
	$(Q)$(BUILD_MAKE) all
	$(Q)scripts/demo

.PHONY: demo-dpdk
demo-dpdk: deps-test
	$(Q)$(BUILD_MAKE) all
	$(Q)scripts/demo-dpdk

# ---- test it: tests/run.py takes NAME=COMMAND and closes with `N passed, N failed`
unit_suites = $(foreach t,$(UNIT_SRC:tests/unit/%.c=%),$(1)$(t)=$(2)/tests/unit/$(t))
HOUSE_SUITES := includes=tests/house/check_includes.py format=tests/house/check_format docs=tests/house/check_docs bench=tests/house/check_bench fetch=tests/house/check_fetch rfc9293=tests/house/check_rfc9293.py

# Those that wait for servers of their own are left to `make test`.
QUICK_SUITES = $(filter-out test_coord_http=% test_coord_etcd=%,$(call unit_suites,,$(BUILD)))

.PHONY: check
check: all unit $(CHECK_PROGRAMS)
	$(Q)tests/run.py -j2 --seconds 120 $(HOUSE_SUITES) $(QUICK_SUITES) $(CHECK_SUITES)

.PHONY: test
test: deps-test
	$(Q)$(BUILD_MAKE) test-programs
	$(Q)$(MAKE) --no-print-directory test-run

.PHONY: test-programs
test-programs: all unit $(CHECK_PROGRAMS) $(TEST_PROGRAMS)
	$(Q)$(MAKE) --no-print-directory SAN=asan unit $(ASAN_PROGRAMS)
	$(Q)$(MAKE) --no-print-directory SAN=tsan $(TSAN_TESTS:%=build-tsan/tests/unit/%)

# Programs with several threads; the others have nothing to race.
TSAN_TESTS := test_spool test_transport test_relay test_domains test_admin test_mailbox test_storage test_copier test_gate test_recipients test_shared \
    test_link test_index test_coord_http test_wire

comma := ,
empty :=
.PHONY: test-run
test-run:
	$(Q)tests/run.py -j2 --alone $(subst $(empty) $(empty),$(comma),$(strip $(ALONE))) --seconds 400 $(HOUSE_SUITES) lint=tests/house/check_lint \
	    $(call unit_suites,,$(BUILD)) $(call unit_suites,asan-,build-asan) \
	    $(foreach t,$(TSAN_TESTS),'tsan-$(t)=TSAN_OPTIONS=suppressions=tests/tsan.supp build-tsan/tests/unit/$(t)') \
	    $(CHECK_SUITES) $(TEST_SUITES)

.PHONY: lint
lint:
	$(Q)tests/house/check_format && tests/house/check_lint --deep

.PHONY: docs
docs: all
	$(Q)$(BUILD)/bin/satcheld --print-config-docs > docs/configuration.md
	$(Q)$(BUILD)/bin/satcheld --print-metrics-docs > docs/metrics.md
	$(Q)$(BUILD)/bin/satchelctl docs > docs/satchelctl.md

# ---- install it
PREFIX ?= /usr/local
DESTDIR ?=
.PHONY: install
install: all
	install -d $(DESTDIR)/usr/lib/sysusers.d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/etc/satchel $(DESTDIR)/lib/systemd/system \
	    $(DESTDIR)$(PREFIX)/share/doc/satchel
	install -m 755 $(BUILD)/bin/satcheld $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(BUILD)/bin/satchelctl $(DESTDIR)$(PREFIX)/bin/
	test -e $(DESTDIR)/etc/satchel/satcheld.yaml || install -m 644 dist/satcheld.yaml $(DESTDIR)/etc/satchel/
	sed 's|@PREFIX@|$(PREFIX)|' dist/satcheld.service > $(DESTDIR)/lib/systemd/system/satcheld.service
	install -m 644 dist/satchel.sysusers $(DESTDIR)/usr/lib/sysusers.d/satchel.conf
	install -m 644 README.md docs/*.md dist/satcheld-dpdk.conf $(DESTDIR)$(PREFIX)/share/doc/satchel/

.PHONY: clean
clean:
	$(Q)rm -rf build build-asan build-tsan build-mutants build-fuzz

.PHONY: help
help:
	@echo "make run        install what is missing, build, start a node in the foreground (SMTP 127.0.0.1:2525)"
	@echo "                NODES=3: etcd and three nodes of a cluster on loopback"
	@echo "make demo       the whole story in a minute: primary down, mail bagged, primary back, bag drained"
	@echo "make demo-dpdk  the same over a DPDK front-end with a TCP of its own, in network namespaces (root)"
	@echo "make test       every test; ends in 'N passed, N failed'"
	@echo "make check      the tests that take seconds"
	@echo "make bench      Satchel and Postfix in pairs on this machine (QUICK=1: two minutes)"
	@echo "make bench-cluster  three nodes on this machine: copies, adoption, drain, repair (QUICK=1: two minutes)"
	@echo "make bench-dpdk the DPDK front-end beside kernel sockets, under the same load (QUICK=1: two minutes)"
	@echo "make soak-conns a million connections at rest on the DPDK front-end (CONNS=1000000 SECONDS=60)"
	@echo "make pkt        the packet scripts of the userspace TCP/IP;  make tcpsim  two of it over a bad network"
	@echo "make fuzz       the userspace TCP/IP, then an SMTP session, under libFuzzer (SECONDS=60)"
	@echo "make soak       the simulators over many more seeds (SEEDS=1..100000)"
	@echo "make mutations  breaks promises on purpose and shows that the simulators notice"
	@echo "make cluster-full  clusters of real processes and etcd: all that can go wrong, with large numbers"
	@echo "make lint       clang-format and clang-tidy with its analyzer at full depth (four minutes)"
	@echo "make docs       writes the pages that are made from tables"
	@echo "make install    PREFIX=/usr/local DESTDIR="

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
