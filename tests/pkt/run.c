/* run [-v] [-k VARIANT] FILE|DIRECTORY... - runs packet scripts (README.md) and prints TAP.
 *
 * Each script runs over IPv4 and IPv6, with ordinary sequence numbers and with all near their wrap, and once more for
 * each family with every frame preceded by its own beginnings, which must change nothing.  A file has a process of its
 * own: one that crashes fails alone.  A failure names file, line, what was asked for and what was sent, and shows all
 * that went over the wire.
 *
 *   -v  shows packets as they go    -k ipv6  runs only variants whose name contains this */
#include "tests/pkt/command.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct variant variants[] = {
    {"ipv4", false, false, false}, {"ipv4 near the wrap", false, true, false}, {"ipv4 truncated", false, false, true},
    {"ipv6", true, false, false},  {"ipv6 near the wrap", true, true, false},  {"ipv6 truncated", true, false, true},
};

static struct {
    bool verbose;
    const char *only;
    unsigned passed, failed;
} options;

/* Each line of it behind "# ". */
static void print_remarks(const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        printf("# %.*s\n", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static void report(struct world *w, const struct script *s)
{
    if (w->failed) {
        fflush(w->trace);
        printf("# %s:%u: %s\n", s->path, w->line ? w->line->number : 0, w->line ? w->line->text : "the end");
        print_remarks(w->why ? w->why : "?");
        print_remarks(w->trace_text);
    }
    printf("%s - %s (%s): %s\n", w->failed ? "not ok" : "ok", s->path, w->variant.name, s->title);
    fflush(stdout);
}

static bool run_variant(const struct script *s, struct variant v)
{
    static struct world w;
    world_open(&w, s, v);
    w.verbose = options.verbose;
    command_run(&w);
    world_end(&w);
    report(&w, s);
    bool ok = !w.failed;
    world_close(&w);
    return ok;
}

static bool wanted(const struct script *s, const struct variant *v)
{
    if (options.only && !strstr(v->name, options.only))
        return false;
    return (v->v6 ? s->v6 : s->v4) && (!v->truncated || s->truncated);
}

static unsigned run_script(const char *path)
{
    struct script s;
    unsigned bad = 0;
    if (!script_load(&s, path)) {
        printf("not ok - %s: not readable\n", path);
        return 1;
    }
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (wanted(&s, &variants[i]))
            bad += !run_variant(&s, variants[i]);
    script_free(&s);
    return bad;
}

static void run_file(const char *path)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        exit(run_script(path) ? 1 : 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        status = -1;
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
        printf("not ok - %s: crashed (%s %d)\n", path, WIFSIGNALED(status) ? "signal" : "code",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (status == 0)
        options.passed++;
    else
        options.failed++;
}

static int is_script(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 4 && !strcmp(d->d_name + n - 4, ".pkt");
}

static void run_path(const char *path)
{
    struct dirent **names;
    int n = scandir(path, &names, is_script, alphasort);
    if (n < 0)
        return run_file(path);
    for (int i = 0; i < n; i++) {
        char file[512];
        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        run_file(file);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "vk:")) != -1;) {
        if (c == '?')
            return 2;
        options.verbose |= c == 'v';
        options.only = c == 'k' ? optarg : options.only;
    }
    for (int i = optind; i < argc; i++)
        run_path(argv[i]);
    printf("# %u scripts without fault, %u with\n", options.passed, options.failed);
    return options.failed || options.passed == 0 ? 1 : 0;
}
