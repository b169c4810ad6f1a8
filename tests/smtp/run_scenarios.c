/* run_scenarios [--wire NAME] [--cuts N] FILE... - runs SMTP scenarios: each whole, then byte by byte, then cut in two
 * at every place (--cuts: at every Nth), and demands that the server says and stores the same each time.
 *
 * With --wire everything goes over that wire (wire.h), and must be what a run without a wire said and stored.
 * Ends in "N passed, N failed"; exit 1 if any failed. */
#include "spool/base/err.h"
#include "tests/smtp/fake.h"
#include "tests/smtp/scenario.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { WHOLE = -2, BYTES = -1 }; /* or the place of the cut */

/* What must be the same in each run. */
struct outcome {
    struct text said, stored;
    size_t sent; /* bytes of the client */
};

struct run {
    struct fake f;
    const struct scenario *sc;
    const struct step *step;
    long cut;
    size_t sent;    /* bytes of the client so far */
    size_t checked; /* of f.out */
    bool failed;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct run *r, const char *fmt, ...)
{
    char how[32];
    snprintf(how, sizeof how, "cut at byte %ld", r->cut);
    fprintf(stderr, "FAILED %s:%u (%s; %s, %s): ", r->sc->file, r->step->line, r->sc->title, r->f.wire->name,
            r->cut == WHOLE   ? "whole"
            : r->cut == BYTES ? "byte by byte"
                              : how);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    r->failed = true;
    return false;
}

/* ---- the client */

static void send_bytes(struct run *r, const uint8_t *p, size_t n)
{
    long at = r->cut - (long)r->sent;
    r->sent += n;
    if (r->cut == BYTES) {
        for (size_t i = 0; i < n; i++)
            fake_send(&r->f, p + i, 1);
    } else if (at > 0 && at < (long)n) {
        fake_send(&r->f, p, (size_t)at);
        fake_send(&r->f, p + at, n - (size_t)at);
    } else {
        fake_send(&r->f, p, n);
    }
}

/* Sends that follow one another go out in one piece. Returns how many steps that were. */
static size_t do_send(struct run *r, const struct step *st, size_t left)
{
    struct text all = {0};
    size_t n = 0;
    for (; n < left && st[n].kind == STEP_SEND; n++)
        text_add(&all, st[n].bytes, st[n].n);
    if (r->f.out.n != r->checked)
        fail(r, "unexpected reply before this: %s", r->f.out.p + r->checked);
    send_bytes(r, (const uint8_t *)all.p, all.n);
    free(all.p);
    return n;
}

/* ---- the server's replies */

/* The next reply, all its lines; 0: none. */
static size_t reply_length(const char *p)
{
    size_t n = 0;
    for (const char *end; (end = strstr(p + n, "\r\n")); n = (size_t)(end + 2 - p))
        if (strlen(p + n) > 3 && p[n + 3] != '-')
            return (size_t)(end + 2 - p);
    return 0;
}

/* "250 2.1.0": the reply is one line that starts so.  "250* SIZE": any number of lines, which contain the text. */
static bool reply_matches(const char *reply, const char *pattern)
{
    if (strlen(pattern) > 3 && pattern[3] == '*') {
        const char *text = pattern + 4 + strspn(pattern + 4, " ");
        return strncmp(reply, pattern, 3) == 0 && strstr(reply, text);
    }
    return strncmp(reply, pattern, strlen(pattern)) == 0 && reply[3] != '-';
}

static void do_expect(struct run *r, const char *pattern)
{
    const char *p = r->f.out.p + r->checked;
    size_t n = reply_length(p);
    char *reply = strndup(p, n);
    if (n == 0)
        fail(r, "expected \"%s\", the server is silent", pattern);
    else if (!reply_matches(reply, pattern))
        fail(r, "expected \"%s\", got: %s", pattern, reply);
    r->checked += n;
    free(reply);
}

/* ---- directives */

static void set_domain(struct run *r, const char *args, bool pending)
{
    struct fake_domain *d = &r->f.domains[r->f.domains_n++];
    unsigned long long max = 0;
    sscanf(args, "%63s %llu", d->name, &max);
    d->max_bytes = max;
    d->pending = pending;
}

static void do_domain(struct run *r, char *args)
{
    set_domain(r, args, false);
}

static void do_pending(struct run *r, char *args)
{
    set_domain(r, args, true);
}

/* Of the domain that was named last. */
static void do_list(struct run *r, char *args)
{
    char *list = r->f.domains[r->f.domains_n - 1].list;
    snprintf(list, sizeof r->f.domains->list, "%s", args);
    for (; *list; list++)
        *list = *list == ' ' ? '\n' : *list;
}

static void do_limit(struct run *r, char *args)
{
    struct smtp_limits *l = &r->f.site.limits;
    char name[32];
    unsigned v = 0;
    sscanf(args, "%31s %u", name, &v);
    const struct {
        const char *name;
        uint32_t *at;
    } table[] = {{"rcpts", &l->rcpts},         {"messages", &l->messages}, {"errors", &l->errors},
                 {"refusals", &l->refusals},   {"hops", &l->hops},         {"own-hops", &l->own_hops},
                 {"command-s", &l->command_s}, {"data-s", &l->data_s},     {"txn-bytes", &l->txn_bytes}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, name)) {
            *table[i].at = v;
            return;
        }
    fail(r, "no such limit: %s", name);
}

static void do_size(struct run *r, char *args)
{
    r->f.site.limits.message_bytes = strtoull(args, NULL, 10);
}

static void do_hostname(struct run *r, char *args)
{
    snprintf(r->f.site.hostname, sizeof r->f.site.hostname, "%s", args);
}

static int index_of(struct run *r, const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return i;
    fail(r, "not known here: %s", name);
    return 0;
}

static void do_fail(struct run *r, char *args)
{
    static const char *const places[FAIL_COUNT] = {"admit", "begin", "append", "commit", "done"};
    static const char *const errors[] = {"nothing", "full", "memory", "io",     "fenced",
                                         "too-big", "shut", "copies", "not-now"};
    static const int codes[] = {0,
                                SATCHEL_EFULL,
                                SATCHEL_ENOMEM,
                                SATCHEL_EIO,
                                SATCHEL_EFENCED,
                                SATCHEL_ETOOBIG,
                                SATCHEL_ESHUT,
                                SATCHEL_ECOPIES,
                                SATCHEL_EAGAIN};
    char place[16], error[16];
    if (sscanf(args, "%15s %15s", place, error) == 2)
        r->f.fail[index_of(r, places, FAIL_COUNT, place)] =
            -codes[index_of(r, errors, sizeof errors / sizeof *errors, error)];
}

static void do_hold(struct run *r, char *args)
{
    if (!strcmp(args, "room"))
        r->f.hold_room = true;
    else
        r->f.hold_commits = true;
}

static void do_release(struct run *r, char *args)
{
    (void)args;
    r->f.hold_room = r->f.hold_commits = false;
    fake_settle(&r->f);
}

static const char *const questions[] = {"connect", "mail", "rcpt"};

static void do_later(struct run *r, char *args)
{
    r->f.later[index_of(r, questions, 3, args)] = true;
}

/* "ok" or "550 5.1.1 text" */
static struct smtp_verdict verdict_parse(struct run *r, const char *args)
{
    struct smtp_verdict v = {.kind = VERDICT_OK};
    int code, class, subject, detail, n = 0;
    if (!strcmp(args, "ok"))
        return v;
    if (sscanf(args, "%d %d.%d.%d %n", &code, &class, &subject, &detail, &n) != 4)
        fail(r, "not a verdict: %s", args);
    v.kind = VERDICT_REFUSED;
    status_set(&v.status, code, class, subject, detail, "%s", args + n);
    return v;
}

static void do_answer(struct run *r, char *args)
{
    struct smtp_verdict v = verdict_parse(r, args);
    if (r->f.asked)
        fake_answer(&r->f, &v);
    else
        fail(r, "no question is open");
}

static void do_refuse(struct run *r, char *args)
{
    char *space = strchr(args, ' ');
    if (!space) {
        fail(r, "refuse what?");
        return;
    }
    *space = 0;
    r->f.refuse = verdict_parse(r, space + 1);
    r->f.refusing[index_of(r, questions, 3, args)] = true;
}

static void do_wait(struct run *r, char *args)
{
    fake_wait(&r->f, strtoull(args, NULL, 10) * 1000000);
}

static void do_shutdown(struct run *r, char *args)
{
    (void)args;
    smtp_session_shutdown(&r->f.s);
    fake_settle(&r->f);
}

static void do_disconnect(struct run *r, char *args)
{
    (void)args;
    fake_disconnect(&r->f);
    fake_settle(&r->f);
}

static void do_connect(struct run *r, char *args)
{
    (void)args;
    fake_connect(&r->f);
}

/* ---- checks */

static void check_number(struct run *r, const char *what, unsigned is, const char *args)
{
    if (is != strtoul(args, NULL, 10))
        fail(r, "%s: expected %s, is %u", what, args, is);
}

static void check_stored(struct run *r, char *args)
{
    check_number(r, "stored", r->f.stored, args);
}

static void check_accepted(struct run *r, char *args)
{
    check_number(r, "accepted", r->f.accepted, args);
}

static void check_aborted(struct run *r, char *args)
{
    check_number(r, "aborted", r->f.aborted, args);
}

static char *unquote(char *args)
{
    size_t n = strlen(args);
    if (n >= 2 && args[0] == '"' && args[n - 1] == '"') {
        args[n - 1] = 0;
        args++;
    }
    return args;
}

static void check_body(struct run *r, char *args)
{
    char *want = unquote(args);
    size_t n = unescape(want);
    const struct fake_msg *m = r->f.last;
    if (!m)
        fail(r, "nothing is stored");
    else if (m->body.n != n || (n && memcmp(m->body.p, want, n)))
        fail(r, "the body is: %.*s", (int)m->body.n, m->body.n ? m->body.p : "");
}

static void check_envelope(struct run *r, char *args)
{
    const struct fake_msg *m = r->f.last;
    for (size_t i = 0; m && i < m->envs_n; i++) {
        char line[2048];
        const struct fake_env *e = &m->envs[i];
        snprintf(line, sizeof line, "%s from <%s> to %s", e->domain.p, e->sender.p, e->rcpts.p);
        if (!strcmp(line, args))
            return;
        if (i + 1 == m->envs_n)
            fail(r, "no such envelope; the last is: %s", line);
    }
    if (!m)
        fail(r, "nothing is stored");
}

static void check_envelopes(struct run *r, char *args)
{
    check_number(r, "envelopes", r->f.last ? (unsigned)r->f.last->envs_n : 0, args);
}

static void check_trace(struct run *r, char *args)
{
    char *want = unquote(args);
    unescape(want);
    const struct fake_msg *m = r->f.last;
    if (!m || !strstr(m->envs[0].trace.p, want))
        fail(r, "the trace is: %s", m ? m->envs[0].trace.p : "nothing is stored");
}

static void check_flags(struct run *r, char *args)
{
    check_number(r, "flags", r->f.last ? r->f.last->envs[0].flags : 0, args);
}

static void check_closed(struct run *r, char *args)
{
    (void)args;
    if (!r->f.closed)
        fail(r, "the connection is open");
}

static void check_open(struct run *r, char *args)
{
    (void)args;
    if (r->f.closed)
        fail(r, "the connection is closed");
}

static void check_silent(struct run *r, char *args)
{
    (void)args;
    if (r->f.out.n != r->checked)
        fail(r, "unexpected reply: %s", r->f.out.p + r->checked);
}

static void check_moving(struct run *r)
{
    if (r->f.stuck && !r->failed)
        fail(r, "the wire did not carry %s", r->f.stuck);
}

/* The world is set up before the client connects; the rest comes after. */
static const struct directive {
    const char *name;
    void (*run)(struct run *r, char *args);
    bool connects;
} directives[] = {
    {"domain", do_domain, false},       {"list", do_list, false},
    {"pending", do_pending, false},     {"limit", do_limit, false},
    {"size", do_size, false},           {"hostname", do_hostname, false},
    {"fail", do_fail, false},           {"hold", do_hold, false},
    {"later", do_later, false},         {"refuse", do_refuse, false},
    {"connect", do_connect, true},      {"release", do_release, true},
    {"answer", do_answer, true},        {"wait", do_wait, true},
    {"shutdown", do_shutdown, true},    {"disconnect", do_disconnect, true},
    {"stored", check_stored, true},     {"accepted", check_accepted, true},
    {"aborted", check_aborted, true},   {"body", check_body, true},
    {"envelope", check_envelope, true}, {"envelopes", check_envelopes, true},
    {"trace", check_trace, true},       {"flags", check_flags, true},
    {"closed", check_closed, true},     {"open", check_open, true},
    {"silent", check_silent, true},
};

static void do_directive(struct run *r, const char *text)
{
    char *copy = strdup(text), *args = copy + strcspn(copy, " ");
    if (*args)
        *args++ = 0;
    const struct directive *d = NULL;
    for (size_t i = 0; i < sizeof directives / sizeof *directives; i++)
        if (!strcmp(directives[i].name, copy))
            d = &directives[i];
    if (d && d->connects)
        fake_connect(&r->f);
    if (d)
        d->run(r, args);
    else
        fail(r, "no such directive: %s", copy);
    free(copy);
}

/* ---- runs */

static void run_steps(struct run *r)
{
    const struct scenario *sc = r->sc;
    for (size_t i = 0; i < sc->n && !r->failed;) {
        r->step = &sc->steps[i];
        if (r->step->kind != STEP_DO)
            fake_connect(&r->f);
        switch (r->step->kind) {
        case STEP_SEND:
            i += do_send(r, r->step, sc->n - i);
            check_moving(r);
            continue;
        case STEP_EXPECT:
            do_expect(r, r->step->text);
            break;
        case STEP_DO:
            do_directive(r, r->step->text);
            break;
        }
        i++;
        check_moving(r);
    }
    if (!r->failed)
        check_silent(r, NULL);
}

static bool run_once(const struct scenario *sc, const struct wire *wire, long cut, struct outcome *o_r)
{
    struct run r = {.sc = sc, .step = sc->steps, .cut = cut};
    fake_init(&r.f, wire);
    run_steps(&r);
    *o_r = (struct outcome){.stored = fake_spool(&r.f), .sent = r.sent};
    text_add(&o_r->said, r.f.out.p, r.f.out.n);
    if (r.failed && (cut != WHOLE || wire != &wire_direct))
        fprintf(stderr, "  (it passed %s)\n", cut != WHOLE ? "whole" : "without a wire");
    fake_free(&r.f);
    return !r.failed;
}

static void outcome_free(struct outcome *o)
{
    free(o->said.p);
    free(o->stored.p);
}

static bool text_same(const struct text *a, const struct text *b)
{
    return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

static bool run_again(const struct scenario *sc, const struct wire *wire, long cut, const struct outcome *want)
{
    struct outcome got;
    bool ok = run_once(sc, wire, cut, &got), said = text_same(&got.said, &want->said);
    if (ok && (!said || !text_same(&got.stored, &want->stored))) {
        fprintf(stderr, "FAILED %s (%s; %s, cut %ld): %s:\n%s", sc->file, sc->title, wire->name, cut,
                said ? "stored otherwise" : "other replies", said ? got.stored.p : got.said.p);
        ok = false;
    }
    outcome_free(&got);
    return ok;
}

static bool run_scenario(const struct scenario *sc, const struct wire *wire, size_t cuts, unsigned long *runs)
{
    struct outcome whole;
    bool ok = run_once(sc, &wire_direct, WHOLE, &whole);
    if (wire != &wire_direct)
        ok = ok && run_again(sc, wire, WHOLE, &whole);
    ok = ok && run_again(sc, wire, BYTES, &whole);
    for (size_t cut = 1; ok && cut < whole.sent; cut += cuts, ++*runs)
        ok = run_again(sc, wire, (long)cut, &whole);
    *runs += 2;
    outcome_free(&whole);
    return ok;
}

struct totals {
    unsigned passed, failed;
    unsigned long runs;
};

static void run_file(const char *file, const struct wire *wire, size_t cuts, struct totals *t)
{
    size_t n;
    struct scenario *list = scenarios_load(file, &n);
    for (size_t i = 0; i < n; i++)
        *(run_scenario(&list[i], wire, cuts, &t->runs) ? &t->passed : &t->failed) += 1;
    scenarios_free(list, n);
}

static const struct wire *wire_named(const char *name)
{
    static const struct wire *const wires[] = {&wire_direct, &wire_uring, &wire_epoll, &wire_user};
    for (size_t i = 0; i < sizeof wires / sizeof *wires; i++)
        if (!strcmp(wires[i]->name, name))
            return wires[i];
    return NULL;
}

static int usage(void)
{
    fprintf(stderr, "usage: run_scenarios [--wire direct|io_uring|epoll|user] [--cuts N] FILE...\n");
    return 2;
}

int main(int argc, char **argv)
{
    const struct wire *wire = &wire_direct;
    size_t cuts = 1;
    struct totals t = {0};
    char why[WIRE_WHY_MAX];
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (!strcmp(argv[i], "--wire") && wire_named(argv[i + 1]))
            wire = wire_named(argv[i + 1]);
        else if (!strcmp(argv[i], "--cuts") && atoi(argv[i + 1]) > 0)
            cuts = (size_t)atoi(argv[i + 1]);
        else
            return usage();
    }
    if (i == argc || argv[i][0] == '-')
        return usage();
    if (wire->open(why) < 0) {
        printf("skip smtp over %s: %s\n", wire->name, why);
        return 0;
    }
    for (; i < argc; i++)
        run_file(argv[i], wire, cuts, &t);
    wire->close();
    printf("smtp scenarios over %s, %lu runs: %u passed, %u failed\n", wire->name, t.runs, t.passed, t.failed);
    return t.failed != 0;
}
