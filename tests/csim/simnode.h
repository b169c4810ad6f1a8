/* simnode.h - one machine of the simulated world: a process with the cores of cluster/node.h, a gate, a relay and a
 * front-end, over the world's coordination, network and a depot.
 *
 *   OFF --start--> RUNNING --pause--> PAUSED --resume--> RUNNING --crash or leave--> OFF
 *
 * A paused process gets no turns while clocks, leases and the network go on; what it finds afterwards it finds in any
 * order: its relay may be the first to run. */
#pragma once
#include "cluster/node.h"
#include "tests/csim/depot.h"
#include "tests/csim/simcoord.h"
#include "tests/csim/simnet.h"

enum simnode_state { SIMNODE_OFF, SIMNODE_RUNNING, SIMNODE_PAUSED };

struct simnode *simnode_new(struct world *w, uint32_t index);
void simnode_free(struct simnode **n);

void simnode_start(struct simnode *n);
void simnode_crash(struct simnode *n, bool power);
void simnode_pause(struct simnode *n, bool pause);
/* Orderly stop: the process is off when its shards were handed over, or after a time. */
void simnode_leave(struct simnode *n);
/* While off: another disk is put in. */
void simnode_new_disk(struct simnode *n);
/* The wall clock is set, by this much off the truth. */
void simnode_set_clock(struct simnode *n, int64_t off_us);

/* A client hands a letter in; said() runs once, unless the process dies: the client sees the connection end. */
typedef void simnode_said(void *arg, struct letter *l, bool taken);
bool simnode_submit(struct simnode *n, struct letter *l, simnode_said *said, void *arg);
/* A letter of this process' next message ID; NULL: no more. */
struct letter *simnode_letter(struct simnode *n, uint32_t domain);

void simnode_wake(struct simnode *n, uint64_t at_us);

/* ---- looking */
enum simnode_state simnode_state(const struct simnode *n);
uint64_t simnode_since_us(const struct simnode *n); /* it is in that state */
bool simnode_leaving(const struct simnode *n);
const char *simnode_name(const struct simnode *n);
const struct storage_id *simnode_storage(const struct simnode *n);
uint32_t simnode_store(const struct simnode *n); /* number of its storage */
uint64_t simnode_wall_us(const struct simnode *n);
uint32_t simnode_lives(const struct simnode *n);      /* changes with each start */
const char *simnode_refused(const struct simnode *n); /* empty: takes part */
void simnode_info(struct simnode *n, struct node_info *info_r);
/* Would its gate let a message of this domain pass now? */
bool simnode_may(struct simnode *n, uint32_t domain);
/* Messages that its relay holds. */
uint32_t simnode_claims(const struct simnode *n);
