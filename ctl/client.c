/* client.c - the admin API over its unix socket.  The only file that knows libcurl. */
#include "ctl/client.h"
#include "spool/base/err.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_TIMEOUT_S = 5, CALL_TIMEOUT_S = 120, ANSWER_MAX_BYTES = 256 << 20 };

static const char as_json[] = "Content-Type: application/json";

struct client {
    CURL *curl;
    char *socket;
};

/* Where an answer goes: all into memory, or on success straight to a file. */
struct answer {
    CURL *curl;
    FILE *out;
    char *text;
    size_t n;
};

int client_open(struct client **c_r, const char *socket)
{
    struct client *c = calloc(1, sizeof *c);
    if (!c || curl_global_init(CURL_GLOBAL_NOTHING) != 0) {
        free(c);
        return -SATCHEL_ENOMEM;
    }
    c->curl = curl_easy_init();
    c->socket = strdup(socket);
    if (!c->curl || !c->socket) {
        client_close(&c);
        return -SATCHEL_ENOMEM;
    }
    *c_r = c;
    return 0;
}

void client_close(struct client **c)
{
    if (!*c)
        return;
    curl_easy_cleanup((*c)->curl);
    curl_global_cleanup();
    free((*c)->socket);
    free(*c);
    *c = NULL;
}

static size_t answer_write(char *data, size_t one, size_t n, void *arg)
{
    struct answer *a = arg;
    long status = 0;
    n *= one;
    curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
    if (a->out && status == 200)
        return fwrite(data, 1, n, a->out);
    if (a->n + n > ANSWER_MAX_BYTES)
        return 0;
    char *text = realloc(a->text, a->n + n + 1);
    if (!text)
        return 0;
    memcpy(text + a->n, data, n);
    a->text = text;
    a->n += n;
    text[a->n] = 0;
    return n;
}

static int unreachable(const struct client *c, CURLcode code, char *why_r)
{
    long err = 0;
    curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &err);
    if (err == EACCES)
        snprintf(why_r, CLIENT_WHY_MAX, "may not open %s: run as root or as the user of satcheld", c->socket);
    else if (code == CURLE_COULDNT_CONNECT)
        snprintf(why_r, CLIENT_WHY_MAX,
                 "cannot reach %s: is satcheld running? try `make run`, or name its socket with --socket", c->socket);
    else
        snprintf(why_r, CLIENT_WHY_MAX, "%s: %s: is this the admin socket of satcheld?", c->socket,
                 curl_easy_strerror(code));
    return -SATCHEL_EIO;
}

/* {"error": ..., "remedy": ...}; codes by status, so that callers can tell "not there" from "busy". */
static int refused(long status, const struct answer *a, char *why_r)
{
    json_t *j = a->text ? json_loadb(a->text, a->n, 0, NULL) : NULL;
    const char *error = json_string_value(json_object_get(j, "error"));
    const char *remedy = json_string_value(json_object_get(j, "remedy"));
    if (error)
        snprintf(why_r, CLIENT_WHY_MAX, "%s%s%s", error, remedy ? ": " : "", remedy ? remedy : "");
    else
        snprintf(why_r, CLIENT_WHY_MAX, "unexpected answer with status %ld: is this the admin socket of satcheld?",
                 status);
    json_decref(j);
    return status == 404 ? -SATCHEL_ENOENT : status == 409 ? -SATCHEL_EBUSY : -SATCHEL_EINVAL;
}

/* body: text of the type or NULL. The answer's text is the caller's to free, also after an error. */
static int perform(struct client *c, const char *method, const char *path, const char *type, const char *body,
                   struct answer *a, char *why_r)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    char *url = NULL;
    long status = 0;
    if (body)
        headers = curl_slist_append(headers, type);
    if (!headers || asprintf(&url, "http://localhost%s", path) < 0)
        abort();
    a->curl = c->curl;
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, (long)CALL_TIMEOUT_S);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, answer_write);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, a);
    if (body || strcmp(method, "POST") == 0)
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body ? body : "");
    CURLcode code = curl_easy_perform(c->curl);
    int res = code == CURLE_OK ? 0 : unreachable(c, code, why_r);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    free(url);
    return res == 0 && status >= 300 ? refused(status, a, why_r) : res;
}

static int call(struct client *c, const char *method, const char *path, const char *type, const char *body,
                json_t **answer_r, char *why_r)
{
    struct answer a = {0};
    json_error_t err;
    int res = perform(c, method, path, type, body, &a, why_r);
    if (res == 0) {
        *answer_r = json_loadb(a.text ? a.text : "", a.n, 0, &err);
        if (!*answer_r) {
            snprintf(why_r, CLIENT_WHY_MAX, "the answer is not JSON (%s): is this the admin socket of satcheld?",
                     err.text);
            res = -SATCHEL_EINVAL;
        }
    }
    free(a.text);
    return res;
}

int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **answer_r,
                char *why_r)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    int res = call(c, method, path, as_json, text, answer_r, why_r);
    free(text);
    return res;
}

int client_send(struct client *c, const char *method, const char *path, const char *text, json_t **answer_r,
                char *why_r)
{
    return call(c, method, path, "Content-Type: text/plain", text, answer_r, why_r);
}

int client_raw(struct client *c, const char *method, const char *path, const char *body, struct client_answer *answer_r,
               char *why_r)
{
    struct answer a = {0};
    long status = 0;
    char *type = NULL;
    int res = perform(c, method, path, as_json, body, &a, why_r);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c->curl, CURLINFO_CONTENT_TYPE, &type);
    if (status == 0) {
        free(a.text);
        return res;
    }
    *answer_r = (struct client_answer){
        .status = (uint32_t)status, .type = strdup(type ? type : ""), .body = a.text ? a.text : strdup(""), .n = a.n};
    return answer_r->type && answer_r->body ? 0 : -SATCHEL_ENOMEM;
}

int client_fetch(struct client *c, const char *path, FILE *out, char *why_r)
{
    struct answer a = {.out = out};
    int res = perform(c, "GET", path, as_json, NULL, &a, why_r);
    free(a.text);
    if (res == 0 && fflush(out) != 0) {
        snprintf(why_r, CLIENT_WHY_MAX, "cannot write: %s", satchel_strerror(errno));
        res = -SATCHEL_EIO;
    }
    return res;
}

char *client_escape(const char *text)
{
    char *out = malloc(strlen(text) * 3 + 1), *p = out;
    if (!out)
        abort();
    for (; *text; text++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *text))
            *p++ = *text;
        else
            p += sprintf(p, "%%%02X", (unsigned char)*text);
    }
    *p = 0;
    return out;
}
