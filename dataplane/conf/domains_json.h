/* domains_json.h - a domain as JSON: in domains.json, in the admin API, in `satchelctl --json`.
 *
 *   {"name": "example.com", "primaries": ["mail.example.com:25"], "keep_s": 2592000, "connections": 4,
 *    "order": "strict", "held": false, "pending": false, "max_message_bytes": 0, "pool": "",
 *    "recipients": {"list": "32 hex digits", "count": 1000}}
 *
 * name and primaries are needed, the rest has presets. A key that is not known is refused: it would be lost. */
#pragma once
#include "dataplane/conf/domains.h"

#include <jansson.h>

/* A new reference. */
json_t *domain_json(const struct domain *dom);
/* Over what domain_init sets; keep_s: the preset.  -SATCHEL_EINVAL: why_r (256 bytes) names the key. */
int domain_from_json(const json_t *j, uint64_t keep_s, struct domain *dom_r, char *why_r);
