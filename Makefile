# Satchel.  `make help` lists the targets.
#
#   SAN=asan | tsan | (none)   builds with AddressSanitizer + UBSan, or ThreadSanitizer, in a build directory of its own
#   V=1                        shows the commands

SAN ?=
BUILD := build$(if $(SAN),-$(SAN))
Q := $(if $(V),,@)
CC := gcc
PKGS := liburing libcares yaml-0.1 libmicrohttpd libsodium libxxhash libsystemd smartcols libcurl jansson openssl
HAVE_PKGS := $(shell pkg-config --exists $(PKGS) 2>/dev/null && echo yes)

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wvla \
        -Wformat=2 -Wwrite-strings -Wold-style-definition -Wimplicit-fallthrough
OPT := -O2 -g -fno-omit-frame-pointer
SANFLAGS := $(if $(filter asan,$(SAN)),-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all) \
            $(if $(filter tsan,$(SAN)),-fsanitize=thread)
HARDEN := $(if $(SAN),,-D_FORTIFY_SOURCE=2 -fstack-protector-strong)
CFLAGS := -std=gnu11 -D_GNU_SOURCE -I. -pthread $(WARN) $(OPT) $(SANFLAGS) $(HARDEN) $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDFLAGS := -pthread $(SANFLAGS) -Wl,-z,relro,-z,now
LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lrocksdb

# ---- what is built
SPOOL_SRC := $(wildcard spool/*.c spool/*/*.c)
DATA_SRC  := $(filter-out dataplane/satcheld.c,$(wildcard dataplane/*/*.c))
CTL_LIB_SRC := $(filter-out ctl/satchelctl.c,$(wildcard ctl/*.c))
LIB_SRC   := $(SPOOL_SRC) $(DATA_SRC) $(CTL_LIB_SRC)
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

$(LIB): $(LIB_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/bin/satcheld: $(BUILD)/dataplane/satcheld.o $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

$(BUILD)/bin/satchelctl: $(BUILD)/ctl/satchelctl.o $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

# bench/gen.c -> satchel-gen, bench/sink.c -> satchel-sink: each a program of one file beside the library
$(BUILD)/bin/satchel-%: $(BUILD)/bench/%.o $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS)

# one program a unit test; a test may include the .c it looks into
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(LIB)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ -lcmocka $(LIBS)

.PHONY: unit
unit: $(UNIT)

.PHONY: clean
clean:
	$(Q)rm -rf build build-asan build-tsan

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
