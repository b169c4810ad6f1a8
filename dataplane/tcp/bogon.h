/* bogon.h - addresses from which nobody on the Internet writes: the special-purpose registries that RFC 6890 set up, as
 * they stand with RFC 8190, 9602, 9637 and 9780, where they say "globally reachable: false"; and IPv6 outside of
 * 2000::/3, which is not given out (RFC 3513 4, RFC 4291 2.4). */
#pragma once
#include "dataplane/tcp/addr.h"

bool bogon(const struct ip_addr *a);
