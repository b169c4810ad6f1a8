/* admin_reply.c - answers, and the arguments of a question. */
#include "ctl/admin_impl.h"

#include <stdlib.h>
#include <string.h>

static enum MHD_Result reply_send(struct admin_request *r, unsigned status, const char *type, struct MHD_Response *resp)
{
    if (!resp)
        return MHD_NO;
    MHD_add_response_header(resp, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(resp, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(resp, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(resp, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
    enum MHD_Result res = MHD_queue_response(r->c, status, resp);
    MHD_destroy_response(resp);
    return res;
}

enum MHD_Result admin_reply_text(struct admin_request *r, unsigned status, const char *type, char *text, size_t n)
{
    return reply_send(r, status, type, MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE));
}

enum MHD_Result admin_reply_json(struct admin_request *r, unsigned status, json_t *j)
{
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(j);
    if (!text)
        return MHD_NO;
    return admin_reply_text(r, status, "application/json", text, strlen(text));
}

enum MHD_Result admin_reply_fd(struct admin_request *r, const char *type, int fd, uint64_t n)
{
    return reply_send(r, MHD_HTTP_OK, type, MHD_create_response_from_fd64(n, fd));
}

enum MHD_Result admin_reply_error(struct admin_request *r, unsigned status, const char *error, const char *remedy)
{
    return admin_reply_json(r, status, json_pack("{ss ss}", "error", error, "remedy", remedy));
}

const char *admin_arg(const struct admin_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->c, MHD_GET_ARGUMENT_KIND, name);
}

bool admin_arg_number(struct admin_request *r, const char *name, uint64_t preset, uint64_t most, uint64_t *v_r,
                      enum MHD_Result *answered_r)
{
    const char *text = admin_arg(r, name);
    char *end, remedy[96];
    *v_r = preset;
    if (!text)
        return true;
    errno = 0;
    *v_r = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && *end == 0 && errno == 0 && *v_r >= 1 && *v_r <= most)
        return true;
    snprintf(remedy, sizeof remedy, "give a number between 1 and %llu", (unsigned long long)most);
    *answered_r = admin_reply_error(r, MHD_HTTP_BAD_REQUEST, name, remedy);
    return false;
}

json_t *admin_json_time(uint64_t wall_us)
{
    char text[CLOCK_RFC3339_MAX];
    if (wall_us == 0)
        return json_null();
    clock_rfc3339(wall_us, text);
    return json_string(text);
}

double admin_age_s(const struct admin *a, uint64_t wall_us)
{
    uint64_t now = clock_wall_us(a->deps.clock);
    return wall_us == 0 || now < wall_us ? 0 : (double)(now - wall_us) / 1e6;
}
