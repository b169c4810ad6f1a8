/* satchelctl.c - the operator's tool; see docs/satchelctl.md. */
#include "ctl/commands.h"

#include <locale.h>

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    return ctl_main(argc, argv);
}
