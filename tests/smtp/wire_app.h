/* wire_app.h - the session of a scenario as a transport sees it: for wires over transports. */
#pragma once
#include "dataplane/net/transport.h"
#include "tests/smtp/fake.h"

struct transport_app wire_app(void);
/* Whose client comes next; NULL: nobody's. */
void wire_app_serve(struct fake *f);

/* As in struct wire. */
void wire_app_say(struct fake *f, struct slice bytes);
void wire_app_resume(struct fake *f);
void wire_app_hang_up(struct fake *f);
/* Ends the connection, if there is one. */
void wire_app_abort(struct fake *f);
