/* config.c - what the stack is made with, by name. Times are in seconds. */
#include "tests/pkt/config.h"

enum type { NUMBER, SHORT, BYTE, SWITCH, SECONDS };

static const struct {
    const char *name;
    enum type type;
    size_t at;
} table[] = {
#define TCP(name, type, field)                                                                                         \
    {                                                                                                                  \
        name, type, offsetof(struct stack_config, tcp.field)                                                           \
    }
#define IP(name, type, field)                                                                                          \
    {                                                                                                                  \
        name, type, offsetof(struct stack_config, ip.field)                                                            \
    }
#define GUARD(name, type, field)                                                                                       \
    {                                                                                                                  \
        name, type, offsetof(struct stack_config, guard.field)                                                         \
    }
    TCP("conns", NUMBER, conns_max),
    TCP("syns", NUMBER, syns_max),
    TCP("time-waits", NUMBER, time_waits_max),
    TCP("pages", NUMBER, pages_max),
    TCP("txblocks", NUMBER, txblocks_max),
    TCP("window", NUMBER, window_bytes),
    TCP("send", NUMBER, send_bytes),
    TCP("linger", NUMBER, linger_bytes),
    TCP("rst-rate", NUMBER, rst_per_s),
    TCP("challenge-rate", NUMBER, challenge_per_s),
    TCP("cookies", SWITCH, syn_cookies),
    TCP("ecn", SWITCH, ecn),
    TCP("sack", SWITCH, sack),
    TCP("timestamps", SWITCH, timestamps),
    TCP("rto-min", SECONDS, rto_min_ms),
    TCP("rto-max", SECONDS, rto_max_ms),
    TCP("delack", SECONDS, delack_ms),
    TCP("syn-life", SECONDS, syn_life_ms),
    TCP("r2", SECONDS, r2_ms),
    TCP("fin-wait2", SECONDS, fin_wait2_ms),
    TCP("time-wait", SECONDS, time_wait_ms),
    TCP("zero-window", SECONDS, zero_window_ms),
    IP("mtu", SHORT, mtu),
    IP("ttl", BYTE, ttl),
    IP("neighbours", NUMBER, neighbours_max),
    IP("paths", NUMBER, paths_max),
    IP("echo-rate", NUMBER, echo_per_s),
    IP("dad", SWITCH, dad),
    GUARD("bogons", SWITCH, bogons),
    GUARD("cells", NUMBER, cells),
    GUARD("host-rate", NUMBER, host_per_s),
    GUARD("host-burst", NUMBER, host_burst),
    GUARD("network-rate", NUMBER, network_per_s),
    GUARD("network-burst", NUMBER, network_burst),
    GUARD("answers-rate", NUMBER, answers_per_s),
    GUARD("synack-times", NUMBER, synack_times),
};

static void set(struct words *s, enum type type, void *at)
{
    switch (type) {
    case NUMBER:
        *(uint32_t *)at = (uint32_t)words_int(s);
        return;
    case SHORT:
        *(uint16_t *)at = (uint16_t)words_int(s);
        return;
    case BYTE:
        *(uint8_t *)at = (uint8_t)words_int(s);
        return;
    case SECONDS:
        *(uint32_t *)at = (uint32_t)(words_seconds(s) / 1000);
        return;
    case SWITCH:
        *(bool *)at = words_take(s, "on");
        if (!*(bool *)at && !words_take(s, "off"))
            fail(s->w, "the script: on or off?");
        return;
    }
}

static void one(struct words *s, const char *name)
{
    if (!strcmp(name, "vlan")) {
        s->w->vlan = (int)words_int(s);
        return;
    }
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, name))
            return set(s, table[i].type, (char *)&s->w->cfg + table[i].at);
    words_unknown(s, name);
}

void config_line(struct words *s)
{
    if (s->w->stack)
        return fail(s->w, "the script: config comes first");
    while (words_look(s) && !s->w->failed)
        one(s, words_next(s));
}
