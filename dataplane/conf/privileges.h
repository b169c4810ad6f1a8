/* privileges.h - becoming an ordinary user once the ports are bound.
 * Thread: before any other is started. */
#pragma once
#include <stddef.h>

/* Makes `dir` (0700) if it is missing and gives it to `user`; then the process is `user` in all its groups, without a
 * way back and without capabilities.  user "" : does nothing but make the directory.  0 or -errno with why_r in words.
 */
int privileges_drop(const char *user, const char *dir, char *why_r, size_t why_cap);
