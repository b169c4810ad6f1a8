/* client.h - satchelctl's side of the admin API: HTTP over the unix socket, by libcurl.
 * Thread: the owner's.  Errors: negative SATCHEL_E*, with words that name the remedy in why_r (CLIENT_WHY_MAX):
 * what the daemon answered, or why it cannot be reached. */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#define CLIENT_WHY_MAX 1024

struct client;

/* socket is copied. Connects at the first call. */
int client_open(struct client **c_r, const char *socket);
void client_close(struct client **c);

/* method: "GET", "POST", ...; path: absolute, already escaped; body: NULL for none, borrowed.
 * The answer is a new reference in *answer_r. */
int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **answer_r,
                char *why_r);
/* The same with a text of lines as the body. */
int client_send(struct client *c, const char *method, const char *path, const char *text, json_t **answer_r,
                char *why_r);
/* The answer's bytes as they come, to `out`; nothing is written for an error. */
int client_fetch(struct client *c, const char *path, FILE *out, char *why_r);

/* An answer as it came, whatever its status. */
struct client_answer {
    uint32_t status;
    char *type, *body; /* malloc'ed */
    size_t n;
};
/* body: text or NULL.  An error is one of reaching the daemon. */
int client_raw(struct client *c, const char *method, const char *path, const char *body, struct client_answer *answer_r,
               char *why_r);

/* Percent-escapes text for a path or a query; the caller frees it with free(). */
char *client_escape(const char *text);
