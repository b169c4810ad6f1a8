/* inner.h - what the parts of a session (session.c, verbs.c, body.c) share.  Not for others. */
#pragma once
#include "dataplane/smtp/session.h"

/* The one door between states. */
void smtp_enter(struct smtp_session *s, enum smtp_state next);
/* Sends a reply and counts it; 421 ends the session. */
void smtp_say(struct smtp_session *s, enum smtp_reply r);
/* The same for a line made now, CRLF included. */
void smtp_say_line(struct smtp_session *s, struct slice line);
void smtp_say_status(struct smtp_session *s, const struct smtp_status *st);
/* Ends the session: what was said is sent, then the connection closes.  Harmless when it has ended. */
void smtp_end(struct smtp_session *s);
/* Forgets the transaction, if there is one. */
void smtp_txn_drop(struct smtp_session *s);

/* verbs.c: one command line, without CRLF. */
void smtp_line_run(struct smtp_session *s, struct slice line);
void smtp_banner(struct smtp_session *s);
void smtp_ask(struct smtp_session *s, enum smtp_question q, const struct smtp_path *path);

/* body.c: 354 or why not; then the bytes of DATA, as many as could be taken. */
void smtp_body_begin(struct smtp_session *s);
size_t smtp_body_feed(struct smtp_session *s, struct slice in);
