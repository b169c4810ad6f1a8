"""impaired.py - Linux as the peer over a wire that loses, doubles, reorders, damages and marks (impair.c).

    here: c0 --veth-- c1, bridge, imp0 --impair-- imp1: satcheld on af_packet

The bridge is there for offloads: where c0 leaves checksums and segments to be made, the kernel makes them before the
tap.  A body is random lines; what lies in the spool must be the same bytes.
"""
import itertools
import json
import os
import random
import smtplib
import socket
import subprocess
import threading
import time
import zlib

from programs import Failed, until
from scenarios import Skipped, need, note
from served import served
from wire import FRONT4, FRONT6, Namespace, PortNode, addresses, sh

SYSCTLS = {"sack": "tcp_sack", "timestamps": "tcp_timestamps", "scaling": "tcp_window_scaling", "ecn": "tcp_ecn"}
PPM = 10000  # of a percent


class Wire:
    def __init__(self, house, vlan=0):
        self.middle, self.front = Namespace(house, "middle"), Namespace(house, "front")
        args = ["--vlan", str(vlan)] if vlan else []
        self.proc = house.start(self.middle.command([os.path.join(house.build, "tests/dpdk/impair")] + args +
                                                    ["imp0", "imp1"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        need(self.proc.stdout.readline() == b"ok\n", "impair does not start")
        sh("ip -n middle link set imp1 netns front")
        sh("ip netns exec front sysctl -q -w net.ipv6.conf.imp1.disable_ipv6=1")
        sh("ip -n front link set imp1 up")
        sh("ip link add c0 type veth peer name c1 netns middle")
        house.ends.append(lambda: sh("ip link del c0", check=False))
        sh("ip netns exec middle sysctl -q -w net.ipv6.conf.all.disable_ipv6=1")
        sh("ip -n middle link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        for port in ("c1", "imp0"):
            sh("ip -n middle link set %s master br0 && ip -n middle link set %s up" % (port, port))
        sh("ip -n middle link set br0 up")
        addresses("c0")

    def ask(self, line):
        self.proc.stdin.write(line.encode() + b"\n")
        self.proc.stdin.flush()
        return self.proc.stdout.readline().decode().strip()

    def set(self, seed, **rules):
        """loss=1: of a hundred frames; those not named do not happen; `_us` as they are."""
        for name in ("loss", "twice", "reorder", "damage", "mark"):
            need(self.ask("%s %d" % (name, rules.get(name, 0) * PPM)) == "ok", name)
        for name, start in (("reorder_us", 3000), ("delay_us", 0)):
            need(self.ask("%s %d" % (name, rules.get(name, start))) == "ok", name)
        need(self.ask("seed %d" % seed) == "ok", "seed")

    def stats(self):
        return json.loads(self.ask("stats"))


def peer(offload=True, **options):
    """How Linux's TCP is to be: all options that are not named are on, ECN off."""
    for name, key in SYSCTLS.items():
        sh("sysctl -q -w net.ipv4.%s=%d" % (key, int(options.get(name, name != "ecn"))))
    on = "on" if offload else "off"
    sh("ethtool -K c0 tx %s gso %s gro %s; ethtool -K c0 tso %s" % (on, on, on, on))


class Mail(smtplib.SMTP):
    """With an MSS of its own."""

    def __init__(self, host, mss, seconds):
        self.mss = mss
        super().__init__(host, 25, "client.test", seconds)

    def _get_socket(self, host, port, timeout):
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, self.mss)
        s.settimeout(timeout)
        s.connect((host, port))
        return s


def random_body(seed, n):
    r = random.Random(seed)
    blob = r.randbytes(n).translate(bytes(33 + b % 94 for b in range(256)))
    return b"Subject: %d\r\n\r\n" % seed + b"".join(blob[i:i + 100] + b"\r\n" for i in range(0, n, 100))


class Sender(threading.Thread):
    def __init__(self, host, mss, seed, n, seconds):
        super().__init__(daemon=True)
        self.host, self.mss, self.seconds, self.body, self.why = host, mss, seconds, random_body(seed, n), ""

    def run(self):
        try:
            with Mail(self.host, self.mss, self.seconds) as m:
                m.ehlo()
                m.sendmail("s@client.test", ["u@example.test"], self.body)
        except (OSError, smtplib.SMTPException) as e:
            self.why = "%s over %s: %s" % (type(e).__name__, self.host, e)


def talk(host, mss, lines, seconds):
    """Many commands at once: it is the replies that have to come through."""
    with Mail(host, mss, seconds) as m:
        m.ehlo()
        m.sock.sendall(b"NOOP\r\n" * lines)
        got = b""
        while got.count(b"\n") < lines:
            more = m.sock.recv(65536)
            need(more, "the connection ended after %d replies" % got.count(b"\n"))
            got += more
        need(set(got.splitlines()) == {b"250 2.0.0 Ok"}, "replies are not whole: %r" % got[:200])


def passes(node, what, mss=1460, messages=2, n=2 << 20, lines=1500, seconds=60):
    """Messages from several clients at once over IPv4 and IPv6, the replies of many commands; then all is closed."""
    begin, before = time.monotonic(), set(node.queued())
    senders = [Sender(host, mss, zlib.crc32(what.encode()) + i, n, seconds)
               for i, host in enumerate((FRONT4, FRONT6) * messages)]
    for s in senders:
        s.start()
    for host in (FRONT4, FRONT6):
        try:
            talk(host, mss, lines, seconds)
        except (OSError, smtplib.SMTPException) as e:
            raise Failed("%s: talking over %s: %s" % (what, host, e))
    for s in senders:
        s.join(seconds)
        need(not s.is_alive() and not s.why, "%s: %s" % (what, s.why or "not within %d s" % seconds))
    took = time.monotonic() - begin
    until("%s: all is in the queue" % what, lambda: len(set(node.queued()) - before) >= len(senders), 5)
    stored(node, what, set(node.queued()) - before, senders)
    return took


def stored(node, what, idents, senders):
    got = {node.view(i) for i in idents}
    need(len(idents) == len(senders), "%s: %d messages in the spool, not %d" % (what, len(idents), len(senders)))
    for s in senders:
        need(s.body in got, "%s: a message over %s is not the one that was sent" % (what, s.host))


def label(options):
    return ", ".join("%s %s" % (k, v if not isinstance(v, bool) else "on" if v else "off") for k, v in options.items())


def combination(node, wire, seed, mss, options, rules, **kw):
    peer(**options)
    wire.set(seed, **rules)
    what = "MSS %d, %s; %s" % (mss, label(options) or "all on but ECN", label(rules) or "nothing lost")
    before = node.counters()
    seconds = passes(node, what, mss, **kw)
    wire.set(seed)
    after, carried = node.settled(), wire.stats()
    note("%.1f s: %s: %d segments again" % (seconds, what, after["tcp_retransmitted"] - before["tcp_retransmitted"]))
    return before, after, carried


QUICK = [
    (1460, {}, {}),
    (1460, {"offload": False}, {"delay_us": 2000}),
    (1460, {}, {"loss": 1, "twice": 2, "reorder": 5}),
    (536, {"sack": False, "timestamps": False, "offload": False}, {"loss": 2, "reorder": 2}),
    (1220, {"scaling": False}, {"loss": 3, "damage": 2}),
    (1460, {"ecn": True}, {"mark": 5, "loss": 0.5}),
    (1220, {"timestamps": False, "offload": False}, {"loss": 10, "twice": 3, "reorder": 3}),
]


def on_impaired(house, vlan=0, settings=()):
    wire = Wire(house, vlan)
    tree = {"dataplane.host_rate": 0, "dataplane.network_rate": 0, "dataplane.vlan": vlan}
    tree.update(dict(settings))
    node = PortNode(house, "node", served(), "net_af_packet0,iface=imp1", wire.front, tree)
    peer()
    node.start()
    return node, wire


def scenario_linux_over_an_impaired_wire(house):
    node, wire = on_impaired(house, settings={"dataplane.queues": 2})
    for seed, (mss, options, rules) in enumerate(QUICK):
        before, after, carried = combination(node, wire, seed, mss, options, rules)
        if rules.get("damage"):
            need(after["drop_tcp_sum"] > before["drop_tcp_sum"], "no damage was noticed")
        if rules.get("mark"):
            need(after["tcp_ecn_ce_in"] > before["tcp_ecn_ce_in"], "no mark of congestion was noticed")
    need(carried["a"]["lost"] > 50 and carried["b"]["lost"] > 5, "little was lost: %s" % carried)
    need(carried["a"]["overflow"] == 0, "the wire overflowed: %s" % carried)
    need(after["tcp_retransmitted"] > 0, "nothing was sent again")
    need(node.stop() == 0, "exit status is not 0")


def scenario_vlan(house):
    node, wire = on_impaired(house, 7)
    combination(node, wire, 1, 1460, {}, {"loss": 1}, messages=1)
    need(wire.stats()["b"]["not_tagged"] == 0, "frames without a tag: %s" % wire.stats())
    need(node.show()["vlan"] == 7, "VLAN")
    need(node.stop() == 0, "exit status is not 0")


def scenario_vlan_of_another(house):
    wire = Wire(house, 8)
    node = PortNode(house, "node", served(), "net_af_packet0,iface=imp1", wire.front, {"dataplane.vlan": 7})
    node.spawn()
    s = socket.socket()
    s.setblocking(False)
    until("the port is served", lambda: "daemon.ready" in node.log_text(), 20)
    s.connect_ex((FRONT4, 25))
    until("frames are dropped for their VLAN", lambda: node.counters()["drop_vlan"] > 0, 10)
    need(node.counters()["rx_frames"] > 0 and node.counters()["tcp_syn_in"] == 0, "taken: %s" % node.counters())
    s.close()
    need(node.stop() == 0, "exit status is not 0")


def matrix():
    """Each option with each other, each twice, with losses that go round."""
    losses = itertools.cycle([0, 1, 3, 10, 0.3, 5])
    names = ("sack", "timestamps", "scaling", "ecn", "offload")
    for mss in (536, 1220, 1460):
        for values in itertools.product((True, False), repeat=len(names)):
            for _ in range(2):
                yield mss, dict(zip(names, values)), {"loss": next(losses), "reorder": 1, "twice": 1}


def scenario_linux_with_every_option(house):
    if not house.full:
        raise Skipped("a quarter of an hour: make dpdk-full")
    node, wire = on_impaired(house, settings={"dataplane.queues": 2, "spool.max": "0"})
    for seed, (mss, options, rules) in enumerate(matrix()):
        slow = rules["loss"] >= 5 and not options["sack"]  # Linux waits for a timeout for most of what is lost
        combination(node, wire, seed, mss, options, rules, messages=1, n=(1 << 17) if slow else 3 << 20, seconds=180)
        node.admin("DELETE", "/v1/queue?domain=example.test")
    need(node.stop() == 0, "exit status is not 0")
