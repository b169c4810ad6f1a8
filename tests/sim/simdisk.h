/* simdisk.h - a disk in memory that loses power: the disk of the simulator, against spool/segment/disk.h.
 *
 * Each file has two images: what a read sees (the cache) and what a power cut leaves (the platter), in sectors of 512
 * bytes, each of which is written whole or not at all.  A write that was submitted lands in the cache after a seeded
 * latency and in seeded order; only a sync carries a file's dirty sectors to the platter.  A power cut keeps a seeded
 * subset of the dirty sectors and of those of the writes in flight.  A kill of the process keeps the cache.
 *
 * Every effect has a number: the submission of a write, its landing, its sync, its completion, and the moments before,
 * inside and after each create, put and remove.  The plan names the number at which the machine dies; from then on each
 * call fails, writes in flight end with -SATCHEL_EIO, and nothing changes any more until simdisk_power_on().
 *
 * Thread: one.  Time is virtual: it moves when poll waits, and by simdisk_sleep().  Same seed, same history. */
#pragma once
#include "spool/base/clock.h"
#include "spool/base/rng.h"
#include "spool/segment/disk.h"

#define SIMDISK_SECTOR 512u

enum simdisk_crash {
    SIMDISK_POWER, /* the power fails: what was not synced is kept or lost, sector by sector */
    SIMDISK_KILL,  /* the process dies: what was written stays in the cache, still unsynced */
};

struct simdisk_plan {
    uint64_t die_at; /* number of the effect, counted from simdisk_arm; 0: never */
    enum simdisk_crash how;
    uint64_t write_eio_at; /* the n-th landing from simdisk_arm fails part way; 0: never */
    uint64_t sync_eio_at;  /* the n-th sync from simdisk_arm fails, and what was dirty is forgotten; 0: never */
};

/* Writes that came in several pieces, by all disks. */
extern uint64_t simdisk_pieced;

struct simdisk;

/* keep_seed: latencies, order and what a crash keeps. */
void simdisk_open(struct simdisk **s_r, uint64_t keep_seed, uint64_t capacity_bytes);
void simdisk_close(struct simdisk **s);
struct disk *simdisk_disk(struct simdisk *s);
/* The platter as a read-only disk: what would be there if the power failed now and no dirty sector survived. */
struct disk *simdisk_platter(struct simdisk *s);
const struct clock *simdisk_clock(struct simdisk *s);
void simdisk_sleep(struct simdisk *s, uint64_t us);

/* Boot clock at which the next write lands; UINT64_MAX: none is in flight. */
uint64_t simdisk_next_us(const struct simdisk *s);
/* Every write takes so much longer from now on. */
void simdisk_slow(struct simdisk *s, uint64_t us);

/* Starts counting effects anew under this plan. */
void simdisk_arm(struct simdisk *s, const struct simdisk_plan *plan);
uint64_t simdisk_effects(const struct simdisk *s);
bool simdisk_dead(const struct simdisk *s);
/* Dies now, whatever the plan. */
void simdisk_crash(struct simdisk *s, enum simdisk_crash how);
/* Ready for the next process: no plan, no handles, nothing in flight. Everyone who held entries has dropped them. */
void simdisk_power_on(struct simdisk *s);

/* Another program takes or gives back room: the capacity is now this. */
void simdisk_resize(struct simdisk *s, uint64_t capacity_bytes);
uint64_t simdisk_used(const struct simdisk *s);
/* Number of files whose name begins so. */
uint32_t simdisk_count(const struct simdisk *s, const char *prefix);

/* One bit of a file that begins with prefix, in a sector that is not all zeros; false: there is none. */
struct simdisk_spot {
    char name[64];
    uint64_t off;
    uint8_t value; /* of the byte after the flip */
};
bool simdisk_flip(struct simdisk *s, struct rng *rng, const char *prefix, struct simdisk_spot *spot_r);
/* Is the byte still as the flip left it, in a file that is still there? */
bool simdisk_spot_unchanged(const struct simdisk *s, const struct simdisk_spot *spot);
