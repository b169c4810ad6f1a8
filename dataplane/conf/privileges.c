#include "dataplane/conf/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int say(char *why_r, size_t why_cap, const char *what, const char *name, const char *remedy)
{
    int err = errno;
    snprintf(why_r, why_cap, "%s %s: %s%s", what, name, strerror(err), remedy);
    return -err;
}

int privileges_drop(const char *user, const char *dir, char *why_r, size_t why_cap)
{
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return say(why_r, why_cap, "cannot make", dir, ": make its parent, or choose another data_dir");
    if (user[0] == 0)
        return 0;
    errno = 0;
    struct passwd *pw = getpwnam(user);
    if (!pw) {
        errno = errno ? errno : ENOENT;
        return say(why_r, why_cap, "user", user, ": create it, or change `user:`");
    }
    if (geteuid() == pw->pw_uid)
        return 0;
    if (geteuid() != 0) {
        errno = EPERM;
        return say(why_r, why_cap, "cannot become", user, ": start as root, or leave `user:` out");
    }
    if (chown(dir, pw->pw_uid, pw->pw_gid) < 0)
        return say(why_r, why_cap, "cannot give to the user", dir, "");
    if (initgroups(user, pw->pw_gid) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
        setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return say(why_r, why_cap, "cannot become", user, "");
    return 0;
}
