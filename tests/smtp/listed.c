/* listed.c - is a recipient on a list?  As the server looks it up, without the files. */
#include "dataplane/conf/recipients.c"
#include "tests/smtp/fake.h"

bool fake_listed(const char *domain, const char *entries, struct slice local)
{
    struct recipients_text t;
    char hash[RECIPIENTS_HASH_MAX] = "", why[RECIPIENTS_WHY_MAX];
    if (recipients_text_parse(slice_str(entries), domain, &t, why) < 0)
        abort();
    struct recipient_list *l = list_new(hash, &t);
    bool has = recipient_list_has(l, local);
    list_unref(l);
    recipients_text_free(&t);
    return has;
}
