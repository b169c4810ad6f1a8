/* mount.h - the directory on a file system that all nodes mount (cluster.shared_dir).
 *
 *   DIR/CLUSTER      "satchel-mount 1" and a random UUID: which mount this is.  Written once, by whoever comes first
 *   DIR/NODE/log     the segments of that node; only that node ever writes there (LOCK), others only read
 *
 * Two mounts that happen to have the same path on different machines have different UUIDs, so nodes adopt from each
 * other only over the same one.  A node remembers its mount in DATA/shared.id: a mount point that nothing is mounted on
 * is not taken for an empty file system.
 * Thread: any.  Errors: negative SATCHEL_E*; why_r (MOUNT_WHY_MAX) is for the operator and names the remedy. */
#pragma once
#include "spool/format/storageid.h"

#define MOUNT_WHY_MAX 512

/* Makes what is missing below `dir` (which must be there), for this node.  log_dir_r: PATH_MAX bytes. */
int mount_open(const char *dir, const char *node, const char *data_dir, struct storage_id *id_r, char *log_dir_r,
               char *why_r);
/* Where a node's segments lie; PATH_MAX bytes. */
void mount_log_dir(const char *dir, const char *node, char *log_dir_r);
