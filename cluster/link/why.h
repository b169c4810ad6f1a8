/* why.h - sentences for operators: why something is not so, and what to do about it.  Cut at WHY_MAX, never overrun. */
#pragma once

#define WHY_MAX 256 /* as peer_info.why, and the why_r of the house */

/* why_r: WHY_MAX bytes.  Arguments may not point into it. */
__attribute__((format(printf, 2, 3))) void why_say(char *why_r, const char *fmt, ...);
