/* ledger.h - what was promised, asked for and delivered: the outside view of the spool, which no crash erases.
 *
 * The workload writes down what it does; the house writes down which records became durable; the checks compare that
 * with what the queue says after each start.  The rules are DESIGN.md's invariants 1 to 5. */
#pragma once
#include "spool/format/record.h"
#include "spool/queue/queue.h"

#define SIM_DOMAINS   4
#define SIM_ITEMS_MAX 20
#define SIM_MSGS_MAX  600
#define SIM_LIVES_MAX 64

struct sim_item {
    uint8_t asked; /* bit e: the workload finished it with enum item_end e */
    uint8_t final; /* enum item_end, as a durable DONE or state says */
    bool sunk;     /* the primary has it */
};

struct sim_msg {
    struct msgid id;
    uint32_t number, domain, items_n, chunks;
    uint64_t arrival_us, body_bytes;
    bool acked;      /* its client has the 250 */
    bool abandoned;  /* it was aborted or refused before its MSG record was handed over */
    bool applied;    /* the queue has it */
    bool held;       /* as last asked for, and durable */
    uint64_t due_us; /* the same */
    bool claimed;    /* by the workload */
    uint32_t ending; /* records of its finish on their way */
    bool next_held;  /* what the finish under way asks for */
    uint64_t next_due_us;
    uint32_t moving; /* records of it on their way in a compaction */
    uint32_t seq;    /* of the newest durable DEFER */
    bool damaged;    /* a bit was flipped in a record of it */
    struct sim_item items[SIM_ITEMS_MAX];
};

struct ledger {
    struct sim_msg msgs[SIM_MSGS_MAX];
    uint32_t msgs_n;
    uint32_t base[SIM_LIVES_MAX], lives_n; /* index of the first message of each incarnation */
    uint64_t arrival_us;                   /* the last one given */
    bool tainted;                          /* bits were flipped: a DONE may be gone, so the dead may walk */
};

void ledger_init(struct ledger *g);
/* A new process: message IDs of a new incarnation from here on. */
void ledger_life(struct ledger *g);
/* NULL: the ledger is full. */
struct sim_msg *ledger_new(struct ledger *g, uint64_t wall_us);
struct sim_msg *ledger_find(struct ledger *g, const struct msgid *id);

/* Names made from numbers; static storage. */
struct slice sim_domain(uint32_t domain);
/* The bytes of a message's body: every byte follows from message and offset. */
void sim_body(const struct sim_msg *m, uint64_t off, uint8_t *out_r, size_t n);

/* A record became durable: it ends only what was asked for, only of a message there is. */
void ledger_durable(struct ledger *g, const struct record *rec);
/* Invariants 1 and 3 against the queue after a start; what the queue says becomes the state to go on from. */
void ledger_check(struct ledger *g, struct queue *q);
/* Everything is delivered, nothing is left. */
void ledger_check_empty(struct ledger *g, struct queue *q);
