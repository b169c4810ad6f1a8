/* peers.h - links between nodes: one ordered stream of frames each way to every other storage of the cluster.
 *
 * Three ways to fill the table: TLS over TCP (tls.c), and the simulator's network.  Used from one thread (the
 * cluster's); app callbacks run inside poll.
 *
 * A link is up after both sides' HELLO was accepted: same cluster UUID, a storage UUID that the map knows under the
 * certificate's name, protocol versions that overlap.  What was queued when a link ends is lost; nothing is sent twice.
 * Order is kept while the link stands.  Both buffers are bounded: send says -SATCHEL_EAGAIN at the bound, and room()
 * runs when half of it is free again. */
#pragma once
#include "cluster/link/fbuf.h"
#include "spool/base/clock.h"
#include "spool/format/storageid.h"

struct peers;

enum frame_type {
#define X(name, number, version) FRAME_##name = number,
#include "cluster/link/frames.def"
#undef X
};
enum frame_version {
#define X(name, number, version) FRAME_##name##_VERSION = version,
#include "cluster/link/frames.def"
#undef X
};
/* "PUT"; NULL: not known. */
const char *frame_name(uint16_t type);

#define PROTO_VERSION     1 /* what we speak */
#define PROTO_VERSION_MIN 1 /* what we still understand */

/* What a HELLO says. */
struct peer_hello {
    struct storage_id cluster, storage;
    char name[64];
    uint32_t proto, proto_min;
    uint64_t boot; /* drawn at each start of the process */
    uint64_t wall_us;
};

struct peer_addr {
    struct storage_id storage;
    char name[64];     /* also what its certificate must say */
    char address[272]; /* host:port */
};

struct peer_info {
    struct peer_hello hello;
    bool up;
    uint64_t since_us;               /* boot clock */
    uint64_t queued, sent, received; /* bytes */
    uint64_t rtt_us;
    int64_t skew_us; /* its wall clock less ours, about */
    char why[256];   /* why it is down, for the operator, with the remedy; empty: up */
};

struct peers_app {
    void (*up)(void *arg, const struct peer_info *peer);
    void (*down)(void *arg, const struct storage_id *peer);
    /* payload borrows until return. */
    void (*frame)(void *arg, const struct storage_id *from, uint16_t type, uint16_t version, struct slice payload);
    void (*room)(void *arg, const struct storage_id *peer);
    void *arg;
};

struct peers_ops {
    /* Takes a reference of its own.  0, -SATCHEL_ENOENT (no link), -SATCHEL_EAGAIN (its buffer is full). */
    int (*send)(struct peers *p, const struct storage_id *to, struct fbuf *f);
    /* Which cluster we are in, as soon as that is known and before the first want. */
    void (*join)(struct peers *p, const struct storage_id *cluster);
    /* Whom we should be linked with; others are closed. */
    void (*want)(struct peers *p, const struct peer_addr *addrs, size_t n);
    bool (*info)(struct peers *p, const struct storage_id *id, struct peer_info *info_r);
    void (*poll)(struct peers *p);
    uint64_t (*next_us)(struct peers *p); /* as coord's */
    void (*close)(struct peers **p);
};

struct peers {
    const struct peers_ops *ops;
    int fd;
};

struct peers_tls_config {
    const char *listen;           /* "*:7400" */
    const char *ca, *cert, *key;  /* PEM files; mutual: both sides show a certificate of this CA */
    struct peer_hello hello;      /* ours; cluster may be zero: see join (wall_us is filled in) */
    uint64_t buffer_bytes;        /* each way, each link; 32 MiB */
    uint64_t ping_us, silence_us; /* 1 s, 4 s: a link that is silent for so long is down */
};
/* Strings are copied.  why_r: 256 bytes.  The process ignores SIGPIPE (satcheld does). */
int peers_tls_open(struct peers **p_r, const struct peers_tls_config *cfg, const struct peers_app *app,
                   const struct clock *clock, char *why_r);
/* The port it listens on, also where `listen` asked for port 0. */
uint16_t peers_tls_port(const struct peers *p);
