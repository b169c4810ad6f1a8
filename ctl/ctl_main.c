/* ctl_main.c - satchelctl: which command is meant, its options, its help. */
#include "ctl/client.h"
#include "ctl/commands.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct ctl_option global_options[] = {
    {"socket", "PATH", "The daemon's admin socket; else $SATCHEL_SOCKET, ./run/admin.sock or /run/satchel/admin.sock"},
    {"json", NULL, "Print what the daemon answers, as JSON"},
    {"help", NULL, "Print help, also for a single command"},
    {0},
};

/* ---- help */

static void option_help(const struct ctl_option *o, FILE *out)
{
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    fprintf(out, "  %-24s %s\n", left, o->help);
}

static void options_help(const struct ctl_option *o, FILE *out)
{
    for (; o && o->name; o++)
        option_help(o, out);
}

void ctl_help(FILE *out)
{
    fputs("Usage: satchelctl [OPTION...] COMMAND [ARGUMENT...]\n\nCommands:\n", out);
    for (const struct ctl_command *cmd = ctl_commands; cmd->name; cmd++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", cmd->name, cmd->args);
        fprintf(out, "  %-24s %s\n", left, cmd->summary);
    }
    fputs("\nOptions:\n", out);
    options_help(global_options, out);
    fputs("\n`satchelctl COMMAND --help` says more. Exit codes: 0 done, 1 failed, 2 wrong usage.\n", out);
}

void ctl_command_help(const struct ctl_command *cmd, FILE *out)
{
    fprintf(out, "Usage: satchelctl %s%s%s%s\n\n%s.\n", cmd->name, *cmd->args ? " " : "", cmd->args,
            cmd->options ? " [OPTION...]" : "", cmd->summary);
    if (*cmd->text)
        fprintf(out, "%s\n", cmd->text);
    fputs("\nOptions:\n", out);
    options_help(cmd->options, out);
    options_help(global_options, out);
}

void ctl_docs(FILE *out)
{
    fputs("# satchelctl\n\n"
          "`satchelctl` asks and changes a running node through its admin socket, and examines a stopped one.\n"
          "This page is made from the table in `ctl/commands.c` by `satchelctl docs`.\n\n```\n",
          out);
    ctl_help(out);
    fputs("```\n", out);
    for (const struct ctl_command *cmd = ctl_commands; cmd->name; cmd++) {
        fprintf(out, "\n## %s\n\n%s.\n%s%s", cmd->name, cmd->summary, cmd->text, *cmd->text ? "\n" : "");
        fprintf(out, "\n    satchelctl %s%s%s%s\n", cmd->name, *cmd->args ? " " : "", cmd->args,
                cmd->options ? " [OPTION...]" : "");
        if (cmd->options)
            fputs("\n| option | meaning |\n|---|---|\n", out);
        for (const struct ctl_option *o = cmd->options; o && o->name; o++) {
            fprintf(out, "| `--%s", o->name);
            for (const char *p = o->value ? o->value : ""; p && *p; p++)
                fprintf(out, "%s%s%c", p == o->value ? " " : "", *p == '|' ? "\\" : "", *p);
            fprintf(out, "` | %s |\n", o->help);
        }
    }
}

/* ---- which command */

static size_t word_count(const char *name)
{
    return strchr(name, ' ') ? 2 : 1;
}

/* The command named by the first one or two words; used_r: how many. */
static const struct ctl_command *command_find(const char *first, const char *second, size_t *used_r)
{
    for (const struct ctl_command *cmd = ctl_commands; cmd->name; cmd++) {
        char name[64];
        *used_r = word_count(cmd->name);
        snprintf(name, sizeof name, "%s%s%s", first, *used_r == 2 ? " " : "", *used_r == 2 && second ? second : "");
        if (strcmp(name, cmd->name) == 0)
            return cmd;
    }
    return NULL;
}

static int command_unknown(const char *first, const char *second)
{
    size_t n = strlen(first);
    bool group = false;
    for (const struct ctl_command *cmd = ctl_commands; cmd->name; cmd++)
        group |= strncmp(cmd->name, first, n) == 0 && cmd->name[n] == ' ';
    fprintf(stderr, "satchelctl: unknown command: %s%s%s\n", first, group && second ? " " : "",
            group && second ? second : "");
    for (const struct ctl_command *cmd = ctl_commands; group && cmd->name; cmd++) {
        if (strncmp(cmd->name, first, n) == 0 && cmd->name[n] == ' ')
            fprintf(stderr, "  satchelctl %s %s\n", cmd->name, cmd->args);
    }
    if (!group)
        fputs("Try `satchelctl --help`.\n", stderr);
    return CTL_USAGE;
}

/* ---- options */

static const struct ctl_option *option_find(const struct ctl_option *o, const char *name, size_t n)
{
    for (; o && o->name; o++) {
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    }
    return NULL;
}

/* argv[*at] is "--name", "--name=value", or "--name" with the value behind it; false: it was said what is wrong. */
static bool option_take(struct ctl *c, const struct ctl_option *options, int argc, char **argv, int *at)
{
    const char *name = argv[*at] + 2, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const struct ctl_option *o = option_find(global_options, name, n);
    if (!o)
        o = option_find(options, name, n);
    if (!o) {
        ctl_usage(c, "unknown option %s", argv[*at]);
        return false;
    }
    const char *value = eq ? eq + 1 : "";
    if (!o->value && eq) {
        ctl_usage(c, "--%s takes no value", o->name);
        return false;
    }
    if (o->value && !eq) {
        if (*at + 1 >= argc) {
            ctl_usage(c, "--%s needs a value: %s", o->name, o->value);
            return false;
        }
        value = argv[++*at];
    }
    if (c->given_n == CTL_GIVEN_MAX) {
        ctl_usage(c, "too many options");
        return false;
    }
    c->given[c->given_n].option = o->name;
    c->given[c->given_n++].value = value;
    return true;
}

/* Words go to c->words; behind "--" everything is a word. Options of the command are known once it is. */
static bool args_take(struct ctl *c, int argc, char **argv)
{
    bool all_words = false;
    const char *first = NULL;
    for (int i = 1; i < argc; i++) {
        if (!all_words && strcmp(argv[i], "--") == 0) {
            all_words = true;
        } else if (!all_words && strncmp(argv[i], "--", 2) == 0) {
            if (!option_take(c, c->command ? c->command->options : NULL, argc, argv, &i))
                return false;
        } else if (c->words_n == CTL_WORDS_MAX) {
            ctl_usage(c, "too many arguments");
            return false;
        } else {
            c->words[c->words_n++] = argv[i];
            size_t used;
            if (!c->command && (c->command = command_find(first ? first : argv[i], first ? argv[i] : NULL, &used)))
                c->words_n = 0;
            else if (!first)
                first = argv[i];
        }
    }
    return true;
}

static const char *socket_path(const struct ctl *c)
{
    const char *given = ctl_given(c, "socket");
    if (given)
        return given;
    if ((given = getenv("SATCHEL_SOCKET")) && *given)
        return given;
    return access("run/admin.sock", F_OK) == 0 || access("/run/satchel/admin.sock", F_OK) != 0
               ? "./run/admin.sock"
               : "/run/satchel/admin.sock";
}

static int command_run(struct ctl *c)
{
    if (c->words_n < c->command->least)
        return ctl_usage(c, "expected %s", c->command->args);
    if (c->words_n > c->command->most)
        return ctl_usage(c, "unexpected argument %s", c->words[c->command->most]);
    int code = c->command->run(c);
    client_close(&c->client);
    if (fflush(stdout) != 0)
        return ctl_fail("cannot write to standard output");
    return code;
}

int ctl_main(int argc, char **argv)
{
    struct ctl c = {0};
    if (argc == 2 && strcmp(argv[1], "docs") == 0) {
        ctl_docs(stdout);
        return EXIT_SUCCESS;
    }
    if (!args_take(&c, argc, argv))
        return CTL_USAGE;
    c.socket = socket_path(&c);
    c.json = ctl_given(&c, "json") != NULL;
    bool help = ctl_given(&c, "help") != NULL;
    if (c.command && help)
        ctl_command_help(c.command, stdout);
    else if (c.command)
        return command_run(&c);
    else if (c.words_n > 0 && !(help || strcmp(c.words[0], "help") == 0))
        return command_unknown(c.words[0], c.words_n > 1 ? c.words[1] : NULL);
    else
        ctl_help(help || c.words_n > 0 ? stdout : stderr);
    return help || c.words_n > 0 ? EXIT_SUCCESS : CTL_USAGE;
}
