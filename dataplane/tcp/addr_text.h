/* addr_text.h - IP addresses and networks as people write them. */
#pragma once
#include "dataplane/tcp/addr.h"
#include "spool/base/slice.h"

#define ADDR_TEXT_MAX 48 /* an address, or a network with its prefix length, and a NUL */

/* "192.0.2.1", "2001:db8::1".  False: neither; IPv4 dressed as IPv6 (::ffff:192.0.2.1) neither, as it would be two
 * ways to write one thing. */
bool addr_parse(struct slice text, struct ip_addr *a_r);
/* "192.0.2.0/24", "2001:db8::/32"; without a length the address alone.  Bits behind the prefix stay as they are. */
bool addr_parse_prefix(struct slice text, struct ip_prefix *p_r);
/* As RFC 5952 says; returns out_r. */
const char *addr_format(const struct ip_addr *a, char out_r[ADDR_TEXT_MAX]);
const char *addr_format_prefix(const struct ip_prefix *p, char out_r[ADDR_TEXT_MAX]);
