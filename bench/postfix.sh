#!/bin/sh
# postfix.sh - a private Postfix on loopback: the rival of the benchmark, and the primary of the ledger and the demo.
#
#   postfix.sh queue   DIR PORT [NEXT]   accepts for any domain and only queues (in the hold queue: no work beside
#                                        the queue file); `release` sends what it holds to NEXT, 127.0.0.1:PORT
#   postfix.sh primary DIR PORT          delivers every recipient into the maildir DIR/mail/inbox
#   postfix.sh release DIR               lets go of what is held
#   postfix.sh stop    DIR
#
# Queue, data and configuration are in DIR; the machine's own Postfix is not touched.  Needs root, as Postfix's master
# does.  DIR must be reachable for the users postfix and nobody.
set -eu

die() { echo "postfix.sh: $*" >&2; exit 1; }
usage() { sed -n '4,8s/^# *//p' "$0" >&2; exit 2; }

[ $# -ge 2 ] || usage
verb=$1 dir=$2
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
[ "$(id -u)" = 0 ] || die "Postfix's master needs root"
command -v postfix >/dev/null || PATH=$PATH:/usr/sbin
command -v postfix >/dev/null || die "no postfix here: make deps-test"

common() {
    mkdir -p "$dir/etc" "$dir/queue" "$dir/data"
    chown postfix "$dir/data"
    cat >"$dir/etc/main.cf" <<EOF
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = $dir/log
maillog_file_prefixes = $dir
myhostname = postfix.test
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_relay_restrictions = permit_mynetworks, reject
message_size_limit = 104857600
mailbox_size_limit = 0
virtual_mailbox_limit = 0
in_flow_delay = 0
queue_run_delay = 5s
minimal_backoff_time = 5s
disable_dns_lookups = yes
smtp_tls_security_level = none
smtputf8_enable = no
default_process_limit = 120
EOF
    cat >"$dir/etc/master.cf" <<EOF
127.0.0.1:$port inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
EOF
}

queue_only() {
    cat >>"$dir/etc/main.cf" <<EOF
smtpd_recipient_restrictions = check_client_access static:HOLD, permit
relayhost = ${next:+[${next%:*}]:${next##*:}}
EOF
}

into_maildir() {
    mkdir -p "$dir/mail"
    chown nobody "$dir/mail"
    cat >>"$dir/etc/main.cf" <<EOF
virtual_mailbox_domains = static:all
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
virtual_minimum_uid = 1
EOF
}

start() {
    postfix -c "$dir/etc" start >>"$dir/start.log" 2>&1 || {
        cat "$dir/start.log" >&2
        die "Postfix does not start in $dir (are its parents open to the user postfix?)"
    }
}

case $verb in
queue)
    [ $# -ge 3 ] || usage
    port=$3 next=${4:-}
    common && queue_only && start
    ;;
primary)
    [ $# -ge 3 ] || usage
    port=$3
    common && into_maildir && start
    ;;
release)
    postsuper -c "$dir/etc" -H ALL >>"$dir/start.log" 2>&1
    postqueue -c "$dir/etc" -f
    ;;
stop) postfix -c "$dir/etc" stop >>"$dir/start.log" 2>&1 || true ;;
*) usage ;;
esac
