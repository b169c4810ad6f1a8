/* command.c - lines of a script. Each row of the table below is one; README.md explains them to people. */
#include "tests/pkt/command.h"
#include "tests/pkt/config.h"
#include "tests/pkt/expect.h"
#include "tests/pkt/flood.h"
#include "tests/pkt/owner.h"
#include "tests/pkt/say.h"
#include "tests/pkt/want.h"

#include <stdarg.h>
#include <stdlib.h>

struct run {
    struct words s;
    struct peer *c;
};

static bool no_connection(struct run *r)
{
    if (!r->c->conn)
        fail(r->s.w, "@%s: there is no connection", r->c->name);
    return !r->c->conn;
}

/* ---- the peer's side */

static void do_say(struct run *r)
{
    uint64_t low, high;
    if (words_time(&r->s, &low, &high))
        world_until(r->s.w, r->s.w->now_us + low);
    expect_clean(r->s.w);
    if (!r->s.w->failed)
        say_line(&r->s, r->c);
}

static void do_want(struct run *r)
{
    want_line(&r->s, r->c);
}

/* peer NAME [host N] [addr IPV4 IPV6] [port N] [isn N] */
static void do_peer(struct run *r)
{
    struct words *s = &r->s;
    struct peer *c = world_peer(s->w, words_next(s));
    while (words_look(s) && !s->w->failed) {
        if (words_take(s, "host")) {
            int64_t host = words_int(s);
            c->addr = world_host(s->w, (unsigned)host);
            world_mac((unsigned)host, c->mac);
        } else if (words_take(s, "addr")) {
            struct ip_addr a = words_addr(s);
            if (words_look(s) && strchr(words_look(s), ':')) {
                struct ip_addr b = words_addr(s);
                a = s->w->variant.v6 ? b : a;
            }
            c->addr = a;
            world_mac(HOST_GATEWAY, c->mac);
        } else if (words_take(s, "port")) {
            c->port = (uint16_t)words_int(s);
        } else {
            words_unknown(s, words_next(s));
        }
    }
}

/* What the peer remembers of the connection: another follows on the same tuple. */
static void do_forget(struct run *r)
{
    struct peer *c = r->c;
    c->isn_before = c->our_isn;
    c->isn_before_us = c->our_isn_us;
    c->our_next_before = c->our_next;
    c->met = c->our_isn_known = c->edge_known = c->edge_peers_known = false;
    c->ts_on = c->ws_on = c->sack_on = c->ecn_on = false;
    c->conn = NULL;
    c->events = 0;
    c->written = c->read_n = 0;
}

static void run_line(struct world *w, const struct line *l);

/* A line made of others' words. */
static void run_text(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void run_text(struct run *r, const char *fmt, ...)
{
    char text[512], *words[SCRIPT_WORDS_MAX + 1], *save = NULL;
    struct line l = {.number = r->s.l->number, .text = text, .words = words};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *word = strtok_r(text, " ", &save); word && l.n < SCRIPT_WORDS_MAX; word = strtok_r(NULL, " ", &save))
        words[l.n++] = word;
    run_line(r->s.w, &l);
}

/* handshake [rtt SECONDS] [ecn] [options of the SYN]: SYN, SYN-ACK with whatever it agrees to, ACK (10 ms later when
 * nothing else is said), accept. */
static void do_handshake(struct run *r)
{
    char options[256] = "";
    const char *flags = "S", *answer = "S.", *rtt = "0.01";
    while (words_look(&r->s)) {
        const char *word = words_next(&r->s);
        size_t n = strlen(options);
        if (!strcmp(word, "rtt")) {
            rtt = words_next(&r->s);
        } else if (!strcmp(word, "ecn")) {
            flags = "SEW";
            answer = "S.E";
        } else {
            snprintf(options + n, sizeof options - n, " %s", word);
        }
    }
    const char *at = r->c->name;
    run_text(r, "@%s > %s 0%s", at, flags, options);
    run_text(r, "@%s < %s 0 ack 1 ...", at, answer);
    run_text(r, "@%s > +%s . 1 ack 1", at, rtt);
    run_text(r, "@%s accept", at);
}

/* ---- the owner's side */

static void do_listen(struct run *r)
{
    uint16_t port = (uint16_t)words_int(&r->s);
    int rc = tcp_listen(stack_tcp(r->s.w->stack), port);
    if (rc != 0)
        fail(r->s.w, "tcp_listen: %d", rc);
    r->s.w->port = r->s.w->port ? r->s.w->port : port;
    for (unsigned i = 0; i < r->s.w->peers_n; i++)
        if (!r->s.w->peers[i].our_port)
            r->s.w->peers[i].our_port = port;
}

static void do_listen_stop(struct run *r)
{
    tcp_listen_stop(stack_tcp(r->s.w->stack));
}

static void do_accept(struct run *r)
{
    if (!(r->c->events & TCP_EV_ACCEPTED))
        fail(r->s.w, "nothing was accepted");
    r->c->events &= (uint16_t)~TCP_EV_ACCEPTED;
}

/* connect [PORT]: from us to the peer. */
static void do_connect(struct run *r)
{
    struct world *w = r->s.w;
    bool refused = words_take(&r->s, "refused");
    uint16_t port = words_look(&r->s) ? (uint16_t)words_int(&r->s) : 0;
    r->c->events = 0;
    r->c->conn = tcp_connect(stack_tcp(w->stack), w->local, port, &r->c->addr, r->c->port, w->now_us);
    if (!refused)
        no_connection(r);
    else if (r->c->conn)
        fail(w, "it was opened");
}

/* read N: these bytes, and no more, are there to be read (or were read at once). */
static void do_read(struct run *r)
{
    uint32_t n = (uint32_t)words_int(&r->s);
    uint32_t got = r->c->reader ? r->c->read_n : no_connection(r) ? 0 : owner_read(r->s.w, r->c, n);
    r->c->read_n = 0;
    if (got != n)
        fail(r->s.w, "read %u bytes", got);
}

static void do_reader(struct run *r)
{
    r->c->reader = words_take(&r->s, "on");
    if (!r->c->reader && !words_take(&r->s, "off"))
        words_unknown(&r->s, "reader");
    if (r->c->reader && r->c->conn)
        r->c->read_n += owner_read(r->s.w, r->c, UINT32_MAX);
}

/* write N [takes M] */
static void do_write(struct run *r)
{
    uint32_t n = (uint32_t)words_int(&r->s);
    uint32_t takes = words_take(&r->s, "takes") ? (uint32_t)words_int(&r->s) : n;
    if (no_connection(r))
        return;
    uint32_t taken = owner_write(r->s.w, r->c, n);
    if (taken != takes)
        fail(r->s.w, "of %u bytes written, %u were taken", n, taken);
}

static void do_close(struct run *r)
{
    if (!no_connection(r))
        tcp_close(stack_tcp(r->s.w->stack), r->c->conn);
}

static void do_abort(struct run *r)
{
    if (!no_connection(r))
        tcp_abort(stack_tcp(r->s.w->stack), r->c->conn);
}

/* timer SECONDS */
static void do_timer(struct run *r)
{
    uint64_t us = words_seconds(&r->s);
    if (!no_connection(r))
        tcp_timer(stack_tcp(r->s.w->stack), r->c->conn, us);
}

/* ---- the world */

static void do_config(struct run *r)
{
    config_line(&r->s);
}

static void do_only(struct run *r)
{
    while (words_look(&r->s)) /* script.c saw to it */
        words_next(&r->s);
}

static void do_expect(struct run *r)
{
    expect_line(&r->s, r->c);
}

static void do_flood(struct run *r)
{
    expect_clean(r->s.w);
    flood_line(&r->s);
}

static void do_replied(struct run *r)
{
    replied_line(&r->s);
}

static void do_isns(struct run *r)
{
    isns_line(&r->s);
}

/* Whatever is sent for so long. */
static void do_ignore(struct run *r)
{
    world_until(r->s.w, r->s.w->now_us + words_seconds(&r->s));
    for (size_t i = 0; i < r->s.w->sent_n; i++)
        r->s.w->sent[i].taken = true;
}

/* neighbours silent|answer */
static void do_neighbours(struct run *r)
{
    r->s.w->neighbours_silent = words_take(&r->s, "silent");
    if (!r->s.w->neighbours_silent && !words_take(&r->s, "answer"))
        words_unknown(&r->s, "neighbours");
}

/* pool empty|full: of frames to send. */
static void do_pool(struct run *r)
{
    r->s.w->pool_empty = words_take(&r->s, "empty");
    if (!r->s.w->pool_empty && !words_take(&r->s, "full"))
        words_unknown(&r->s, "pool");
}

/* block ADDRESS/BITS ...: those of the family that is running. */
static void do_block(struct run *r)
{
    struct world *w = r->s.w;
    uint32_t n = 0;
    while (words_look(&r->s) && n < 16 && !w->failed) {
        char text[64];
        const char *word = words_look(&r->s);
        const char *slash = strchr(word, '/');
        snprintf(text, sizeof text, "%.*s", (int)(slash ? slash - word : 0), word);
        struct line l = {.words = (char *[]){text, NULL}, .n = 1};
        struct words one = {.w = w, .l = &l};
        struct ip_addr a = words_addr(&one);
        int bits = slash ? atoi(slash + 1) : 128;
        w->blocked[n++] = (struct ip_prefix){a, (uint8_t)(ip_addr_is4(&a) ? 96 + bits : bits)};
        words_next(&r->s);
    }
    if (guard_block(stack_guard(w->stack), w->blocked, n) != 0)
        fail(w, "guard_block refuses");
}

/* ---- turns and lines */

/* turn ... end: the frames of these lines arrive in one burst; what the owner does follows within the same turn. */
static void do_turn(struct run *r)
{
    expect_clean(r->s.w);
    r->s.w->turn_open = true;
    r->s.w->owner_lines_n = 0;
}

static void owner_turn(struct world *w, void *arg)
{
    (void)arg;
    const struct line *end = w->line;
    for (unsigned i = 0; i < w->owner_lines_n && !w->failed; i++) {
        w->line = w->owner_lines[i];
        run_line(w, w->owner_lines[i]);
    }
    w->line = w->failed ? w->line : end;
}

static void do_end(struct run *r)
{
    struct world *w = r->s.w;
    w->turn_open = false;
    w->in_owner_turn = true;
    world_turn(w, owner_turn, NULL);
    w->in_owner_turn = false;
}

enum {
    OWNER = 1, /* acts on the stack: within a turn */
    FIRST = 2, /* before the stack is made */
    CLEAN = 4  /* nothing that was sent may be left unasked for */
};

static const struct {
    const char *name;
    void (*run)(struct run *r);
    int how;
} commands[] = {
    {">", do_say, 0},
    {"<", do_want, 0},
    {"config", do_config, FIRST},
    {"only", do_only, FIRST},
    {"peer", do_peer, 0},
    {"forget", do_forget, 0},
    {"handshake", do_handshake, 0},
    {"listen", do_listen, OWNER},
    {"listen-stop", do_listen_stop, OWNER},
    {"accept", do_accept, 0},
    {"connect", do_connect, OWNER | CLEAN},
    {"read", do_read, OWNER},
    {"reader", do_reader, OWNER},
    {"write", do_write, OWNER | CLEAN},
    {"close", do_close, OWNER | CLEAN},
    {"abort", do_abort, OWNER | CLEAN},
    {"timer", do_timer, OWNER},
    {"expect", do_expect, 0},
    {"flood", do_flood, 0},
    {"replied", do_replied, 0},
    {"isns", do_isns, 0},
    {"ignore", do_ignore, 0},
    {"neighbours", do_neighbours, 0},
    {"pool", do_pool, 0},
    {"block", do_block, 0},
    {"turn", do_turn, 0},
    {"end", do_end, 0},
};

struct deferred {
    void (*run)(struct run *r);
    struct run *r;
};

static void act(struct world *w, void *arg)
{
    (void)w;
    struct deferred *d = arg;
    d->run(d->r);
}

static void execute(struct run *r, size_t i)
{
    struct world *w = r->s.w;
    if (!(commands[i].how & FIRST))
        world_start(w);
    if (w->failed)
        return;
    if ((commands[i].how & CLEAN) && !w->in_owner_turn)
        expect_clean(w);
    if (!(commands[i].how & OWNER) || w->in_owner_turn)
        return commands[i].run(r);
    if (w->turn_open && w->owner_lines_n < TURN_LINES_MAX) {
        w->owner_lines[w->owner_lines_n++] = r->s.l;
        r->s.i = r->s.l->n;
        return;
    }
    struct deferred d = {commands[i].run, r};
    trace(w, "!", r->s.l->text);
    world_turn(w, act, &d);
}

static void run_line(struct world *w, const struct line *l)
{
    struct run r = {.s = {.w = w, .l = l}};
    const char *name = "a", *word = words_look(&r.s);
    if (!word || w->failed)
        return;
    if (*word == '@') {
        name = word + 1;
        r.s.i++;
    }
    r.c = world_peer(w, name);
    r.s.edge = (int32_t)(r.c->edge_ours - r.c->isn);
    word = words_next(&r.s);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(commands[i].name, word)) {
            execute(&r, i);
            if (words_look(&r.s))
                words_unknown(&r.s, words_look(&r.s));
            return;
        }
    words_unknown(&r.s, word);
}

void command_run(struct world *w)
{
    for (size_t i = 0; i < w->script->n && !w->failed; i++) {
        w->line = &w->script->lines[i];
        run_line(w, w->line);
    }
    if (!w->failed)
        w->line = NULL;
}
