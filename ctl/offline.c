/* offline.c - satchelctl spool: check and dump of a stopped node. */
#include "ctl/offline.h"
#include "ctl/commands.h"
#include "ctl/human.h"
#include "spool/base/err.h"
#include "spool/base/log.h"
#include "spool/base/wire.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* ---- opening */

static bool lock_take(struct offline *o)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/LOCK", o->dir);
    o->lock_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (o->lock_fd < 0) {
        ctl_fail("%s: %s: is this the data directory of a Satchel? name it with --dir", path, satchel_strerror(errno));
        return false;
    }
    if (flock(o->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        ctl_fail("%s is in use by a running satcheld: stop it first", o->dir);
        return false;
    }
    return true;
}

bool offline_open(struct offline *o, const char *dir)
{
    char path[PATH_MAX];
    *o = (struct offline){.dir = dir, .lock_fd = -1};
    snprintf(path, sizeof path, "%s/log", dir);
    if (!lock_take(o)) {
        offline_close(o);
        return false;
    }
    int res = access(path, R_OK | X_OK) < 0 ? -errno : disk_file_open(&o->disk, path, DISK_SYNC);
    if (res < 0) {
        ctl_fail("%s: %s", path, satchel_strerror(res));
        offline_close(o);
    }
    return res == 0;
}

void offline_close(struct offline *o)
{
    if (o->disk)
        o->disk->ops->destroy(o->disk);
    if (o->lock_fd >= 0)
        close(o->lock_fd);
    *o = (struct offline){.lock_fd = -1};
}

static const char *const type_names[] = {
    [REC_MSG] = "MSG",     [REC_CHUNK] = "CHUNK", [REC_DONE] = "DONE",   [REC_DEFER] = "DEFER",
    [REC_ABORT] = "ABORT", [REC_DSN] = "DSN",     [REC_TOMBS] = "TOMBS", [REC_GROUP] = "GROUP",
};
#define TYPES (sizeof type_names / sizeof *type_names)

const char *offline_type_name(uint8_t type, char buf[16])
{
    if (type < TYPES && type_names[type])
        return type_names[type];
    snprintf(buf, 16, "type %u", type);
    return buf;
}

static const char *dir_given(const struct ctl *c)
{
    const char *dir = ctl_given(c, "dir");
    return dir ? dir : "./run";
}

/* ---- check */

struct tally {
    uint64_t records[256], bytes[256];
    uint64_t bad_bodies;
    json_t *damage; /* what was damaged, as text */
};

static void damage_add(struct tally *t, const char *what, uint64_t pos, uint64_t bytes)
{
    char text[160];
    snprintf(text, sizeof text, "segment %" PRIu64 " offset %" PRIu32 ": %s, %" PRIu64 " bytes", logpos_seg(pos),
             logpos_off(pos), what, bytes);
    json_array_append_new(t->damage, json_string(text));
}

static int tally_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct tally *t = arg;
    t->records[rec->type]++;
    t->bytes[rec->type] += size;
    if (rec->body.p && !record_body_ok(rec)) {
        t->bad_bodies++;
        damage_add(t, "a body fails its checksum", pos, size);
    }
    return 0;
}

static void tally_damaged(void *arg, uint64_t pos, uint64_t bytes)
{
    damage_add(arg, "a stretch fails its checksums", pos, bytes);
}

static json_t *records_json(const struct tally *t)
{
    json_t *j = json_object();
    char name[16];
    for (int type = 0; type < 256; type++) {
        if (t->records[type] > 0)
            json_object_set_new(
                j, offline_type_name((uint8_t)type, name),
                json_pack("{sI sI}", "records", (json_int_t)t->records[type], "bytes", (json_int_t)t->bytes[type]));
    }
    return j;
}

static void check_print(const struct tally *t, const struct seglog_open_stats *st)
{
    char a[HUMAN_MAX], name[16];
    size_t i;
    json_t *one;
    printf("segments   %" PRIu64 ", %s read\n", st->segments, human_bytes(st->bytes_read, a));
    for (int type = 0; type < 256; type++) {
        if (t->records[type] > 0)
            printf("%-10s %" PRIu64 " records, %s\n", offline_type_name((uint8_t)type, name), t->records[type],
                   human_bytes(t->bytes[type], a));
    }
    if (st->torn_bytes > 0)
        printf("torn tail  %" PRIu64 " bytes of writes that were never acknowledged; %" PRIu64
               " whole records in it are kept\n",
               st->torn_bytes, st->salvaged_records);
    json_array_foreach(t->damage, i, one) printf("damaged    %s\n", json_string_value(one));
}

/* The exit code. */
static int check_end(const struct ctl *c, const struct tally *t, const struct seglog_open_stats *st, int index,
                     uint64_t live, const char *index_text)
{
    bool good = json_array_size(t->damage) == 0 && index == 0;
    if (c->json) {
        json_t *j = json_pack("{sb sI sI sI so sO sI sb ss}", "good", good, "segments", (json_int_t)st->segments,
                              "bytes_read", (json_int_t)st->bytes_read, "torn_bytes", (json_int_t)st->torn_bytes,
                              "records", records_json(t), "damaged", t->damage, "live_messages", (json_int_t)live,
                              "index_agrees", index == 0, "index", index_text);
        ctl_json(c, j);
        json_decref(j);
    } else {
        check_print(t, st);
        printf("live       %" PRIu64 " messages\nindex      %s", live,
               index == 0 ? "agrees with the log\n" : index_text);
        puts(good ? "good" : "DAMAGED: keep a copy of the directory; satcheld serves every message that is whole");
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int check_run(struct ctl *c, struct offline *o)
{
    struct tally *t = calloc(1, sizeof *t);
    struct seglog_open_stats st = {0};
    char *index_text = NULL;
    size_t index_text_n;
    uint64_t live = 0;
    FILE *f = open_memstream(&index_text, &index_text_n);
    if (!t || !f)
        abort();
    t->damage = json_array();
    const struct seglog_replay replay = {tally_record, tally_damaged, t};
    int res = seglog_scan(o->disk, &replay, 0, &st);
    int index = res < 0 ? res : offline_index_check(o, f, &live);
    fclose(f);
    int code = index < 0 ? ctl_fail("%s: %s%s", o->dir, satchel_strerror(index),
                                    index == -SATCHEL_EVERSION ? ": use that version's satchelctl" : "")
                         : check_end(c, t, &st, index, live, index_text);
    json_decref(t->damage);
    free(index_text);
    free(t);
    return code;
}

int cmd_spool_check(struct ctl *c)
{
    struct offline o;
    log_level_now = LOG_LEVEL_ERROR;
    if (!offline_open(&o, dir_given(c)))
        return EXIT_FAILURE;
    int code = check_run(c, &o);
    offline_close(&o);
    return code;
}

/* ---- dump */

struct dump {
    const struct ctl *c;
    bool body, damaged;
};

static void text_add(json_t *j, const char *key, struct slice s)
{
    char quoted[1024];
    if (!s.p)
        return;
    json_t *v = json_stringn((const char *)s.p, s.n);
    json_object_set_new(j, key, v ? v : json_string(log_quote(s, quoted, sizeof quoted)));
}

/* "chunked,moved"; "-" for none. */
static const char *flags_text(uint16_t flags, char out_r[64])
{
    static const struct {
        uint16_t flag;
        const char *name;
    } names[] = {{REC_F_CHUNKED, "chunked"},
                 {REC_F_MOVED, "moved"},
                 {REC_F_FINAL, "final"},
                 {REC_F_8BIT, "8bit"},
                 {REC_F_UTF8, "utf8"}};
    memcpy(out_r, "-", 2);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!(flags & names[i].flag))
            continue;
        if (*out_r == '-')
            *out_r = 0;
        snprintf(out_r + strlen(out_r), 64 - strlen(out_r), "%s%s", *out_r ? "," : "", names[i].name);
    }
    return out_r;
}

static json_t *record_json(const struct record *rec, uint64_t pos, uint32_t size)
{
    char id[MSGID_TEXT_MAX], name[16], at[48], time[CLOCK_RFC3339_MAX], flags[64];
    msgid_format(&rec->id, id);
    clock_rfc3339(rec->arrival_us, time);
    snprintf(at, sizeof at, "%" PRIu64 ":%" PRIu32, logpos_seg(pos), logpos_off(pos));
    json_t *j =
        json_pack("{ss ss ss sI sI ss}", "at", at, "type", offline_type_name(rec->type, name), "id", id, "bytes",
                  (json_int_t)size, "body", (json_int_t)rec->body.n, "flags", flags_text(rec->flags, flags));
    if (rec->arrival_us > 0)
        json_object_set_new(j, "arrival", json_string(time));
    text_add(j, "domain", meta_find(rec->meta, RT_DOMAIN));
    text_add(j, "sender", meta_find(rec->meta, RT_SENDER));
    text_add(j, "rcpt", meta_find(rec->meta, RT_RCPT));
    if (meta_rcpts(rec->meta) > 1)
        json_object_set_new(j, "rcpts", json_integer(meta_rcpts(rec->meta)));
    return j;
}

/* key=value of each member, as the daemon's log has it. */
static void line_print(const json_t *j)
{
    const char *key, *before = "";
    json_t *v;
    json_object_foreach((json_t *)j, key, v)
    {
        char quoted[1100], *text = json_is_string(v) ? NULL : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        const char *s = text ? text : json_string_value(v);
        bool plain = *s && !strpbrk(s, " \"\\\t");
        printf("%s%s=%s", before, key, plain ? s : log_quote(slice_str(s), quoted, sizeof quoted));
        before = " ";
        free(text);
    }
    putchar('\n');
}

static int dump_record(void *arg, const struct record *rec, uint64_t pos, uint32_t size)
{
    struct dump *d = arg;
    json_t *j = record_json(rec, pos, size);
    if (d->c->json) {
        json_dumpf(j, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        line_print(j);
    }
    json_decref(j);
    if (d->body && rec->body.p && rec->body.n > 0 && rec->type != REC_GROUP) {
        fwrite(rec->body.p, 1, rec->body.n, stdout);
        putchar('\n');
    }
    return ferror(stdout) ? -SATCHEL_EIO : 0;
}

static void dump_damaged(void *arg, uint64_t pos, uint64_t bytes)
{
    struct dump *d = arg;
    d->damaged = true;
    fprintf(stderr, "satchelctl: damaged: segment %" PRIu64 " offset %" PRIu32 ", %" PRIu64 " bytes\n", logpos_seg(pos),
            logpos_off(pos), bytes);
}

int cmd_spool_dump(struct ctl *c)
{
    struct offline o;
    struct dump d = {.c = c, .body = ctl_given(c, "body") != NULL};
    const struct seglog_replay replay = {dump_record, dump_damaged, &d};
    struct seglog_open_stats st;
    log_level_now = LOG_LEVEL_ERROR;
    if (!offline_open(&o, dir_given(c)))
        return EXIT_FAILURE;
    int res = seglog_scan(o.disk, &replay, 0, &st);
    if (res < 0)
        ctl_fail("%s: %s", o.dir, satchel_strerror(res));
    offline_close(&o);
    return res < 0 || d.damaged ? EXIT_FAILURE : EXIT_SUCCESS;
}
