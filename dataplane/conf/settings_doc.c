/* settings_doc.c - docs/configuration.md from the settings table. */
#include "dataplane/conf/settings_table.h"

static const char intro[] =
    "# Configuration\n"
    "\n"
    "`satcheld -c FILE` reads one YAML file. Every setting has a preset, so that no file is needed at all.\n"
    "`satcheld --check -c FILE` reads it, says what is wrong and where, and does nothing else.\n"
    "\n"
    "A dot in a name is a level in the file: `smtp.workers` is\n"
    "\n"
    "```yaml\n"
    "smtp:\n"
    "  workers: 4\n"
    "```\n"
    "\n"
    "Sizes are written with B, KiB, MiB, GiB or TiB; times with ms, s, m, h, d or w.\n"
    "SIGHUP, `systemctl reload satcheld` or `satchelctl reload` read the file again. What is marked *live* changes at\n"
    "once. The rest waits for a restart, and the log names it.\n"
    "A file that is refused changes nothing: the daemon goes on as it was.\n"
    "\n"
    "This page is made from `dataplane/conf/settings.def`.\n"
    "\n";

static const char domains_text[] =
    "## domains\n"
    "\n"
    "The domains to begin with. Each one that the registry (`domains.json` in the data directory) does not have yet "
    "is\n"
    "added at start. From then on `satchelctl domain` changes it, and the file no longer speaks for it.\n"
    "\n"
    "```yaml\n"
    "domains:\n"
    "  - name: example.com\n"
    "    primary: [mail.example.com:25, backup.example.com]\n"
    "    keep: 30d\n"
    "    connections: 4\n"
    "    order: strict\n"
    "```\n"
    "\n"
    "| key | preset | meaning |\n"
    "|---|---|---|\n"
    "| `name` | | The domain, as in the addresses. Needed |\n"
    "| `primary` | | Where its mail goes: `host:port`, one or a list of up to 8, best first; without a port 25. Needed "
    "|\n"
    "| `keep` | `keep` above | How long its mail is kept |\n"
    "| `connections` | `4` | Most connections to the primary at once |\n"
    "| `order` | `strict` | `strict`: a message ends before the next one ends. `window`: answers may be outstanding on "
    "all "
    "connections; faster over long paths |\n";

static void cell_put(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void range_put(FILE *out, const struct setting_info *i)
{
    char least[UNITS_TEXT_MAX], most[UNITS_TEXT_MAX];
    switch (i->kind) {
    case SETTING_KIND_INT:
        fprintf(out, "%s, %llu to %llu", i->unit, (unsigned long long)i->least, (unsigned long long)i->most);
        return;
    case SETTING_KIND_SIZE:
        fprintf(out, "bytes, %s to %s", size_format(i->least, least), size_format(i->most, most));
        return;
    case SETTING_KIND_DURATION:
        fprintf(out, "time, %s to %s", duration_format(i->least, least), duration_format(i->most, most));
        return;
    case SETTING_KIND_LIST:
        fprintf(out, "list of %s", i->unit);
        return;
    default:
        cell_put(out, i->unit);
    }
}

static void row_put(FILE *out, const struct setting_info *i)
{
    fprintf(out, "| `%s` | ", i->key);
    if (*i->preset)
        fprintf(out, "`%s`", i->preset);
    fputs(" | ", out);
    range_put(out, i);
    fprintf(out, " | %s | ", i->live ? "live" : "restart");
    cell_put(out, i->help);
    fputs(" |\n", out);
}

void settings_doc(FILE *out)
{
    fputs(intro, out);
    fputs("## Settings\n\n| setting | preset | values | change | meaning |\n|---|---|---|---|---|\n", out);
    for (int i = 0; i < SETTINGS_COUNT; i++)
        row_put(out, &setting_infos[i]);
    fputs("\n", out);
    fputs(domains_text, out);
}
