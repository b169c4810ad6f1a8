/* config.h - `config NAME VALUE ...`: what the stack is made with. */
#pragma once
#include "tests/pkt/words.h"

/* Before the first line that is no config. */
void config_line(struct words *s);
