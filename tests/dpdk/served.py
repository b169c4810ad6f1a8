"""served.py - mail over a DPDK port: taken whole, kept, relayed; clients turned away; what an operator sees of it."""
import json
import os
import random
import re
import signal
import smtplib
import socket
import struct
import subprocess
import time

from scenarios import Skipped, need, note
from programs import ROOT, Failed, Gen, Node, Sink, ledger, until
from wire import (FRONT4, FRONT6, HERE4, HERE6, PortNode, addresses, greeting, send, sh, veth)

AF_PACKET = "net_af_packet0,iface=s0"


def need_none_lost(acked, received):
    gone = sorted(set(acked) - set(received))
    need(not gone, "%d of %d acknowledged messages lost: %s" % (len(gone), len(set(acked)), ", ".join(gone[:5])))


def served(port=9):
    return [("example.test", port)]


def on_veth(house, settings=(), domains=None):
    node = PortNode(house, "node", domains or served(), AF_PACKET, veth(house), settings)
    node.start()
    return node


# ---- whole messages

def bodies():
    """What is easily spoilt on the way: dots, every byte, long lines, nothing at all; and much of it."""
    r = random.Random(5321)
    head = b"Subject: %s\r\n\r\n"
    every = bytes(b for b in range(1, 256) if b not in (10, 13))
    lines = b"".join(bytes(r.choice(b"abc. ") for _ in range(r.randrange(70))) + b"\r\n" for _ in range(4000))
    return [head % b"dots" + b".\r\n..\r\n.x\r\n\r\n.\r\n", head % b"bytes" + every + b"\r\n", b"\r\n",
            head % b"long line" + b"y" * 900 + b"\r\n", head % b"many lines" + lines]


def same(node, ident, body, what):
    got = node.view(ident)
    if got != body:
        at = next((i for i, (a, b) in enumerate(zip(got, body)) if a != b), min(len(got), len(body)))
        raise Failed("%s: %d bytes instead of %d, different from byte %d on: %r, not %r" %
                     (what, len(got), len(body), at, got[at:at + 20], body[at:at + 20]))


def whole_messages(node):
    for host in (FRONT4, FRONT6):
        for i, body in enumerate(bodies()):
            same(node, send(body, host), body, "message %d over %s" % (i, host))


def swaks(node):
    p = subprocess.run(["swaks", "--server", FRONT4, "--to", "u@example.test", "--from", "s@client.test", "--helo",
                        "client.test", "--body", "by swaks\n.\n..", "--header", "Subject: swaks"],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    said = p.stdout.decode(errors="replace")
    need(p.returncode == 0, "swaks ended with %d: %s" % (p.returncode, said[-200:]))
    ident = [line for line in said.splitlines() if line.startswith("<-  250 2.0.0")][0].split()[-1]
    need(b"by swaks\r\n.\r\n.." in node.view(ident), "swaks' body is not whole")


def smtp_source(node):
    for host in (FRONT4, "[%s]" % FRONT6):
        p = subprocess.run(["smtp-source", "-s", "5", "-l", "20000", "-m", "50", "-M", "client.test", "-f",
                            "s@client.test", "-t", "u@example.test", "%s:25" % host], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                           env=dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin"))
        need(p.returncode == 0, "smtp-source to %s: %s" % (host, p.stdout.decode(errors="replace")[-200:]))


def clients(node):
    whole_messages(node)
    before = node.bagged()
    swaks(node)
    smtp_source(node)
    until("101 more are bagged", lambda: node.bagged() == before + 101, 10)
    node.settled()


def scenario_mail_over_af_packet(house):
    node = on_veth(house)
    clients(node)
    c = node.counters()
    need(c["tcp_accepted"] == c["tcp_closed"] + c["tcp_reset_in"], "not every connection ended: %s" % c)
    need(c["tcp_reset_in"] <= 100, "reset by others than smtp-source, which reads no answer to QUIT: %s" % c)
    need(c["tcp_retransmitted"] == 0, "%d segments were sent again over a wire that loses nothing" %
         c["tcp_retransmitted"])
    need(node.stop() == 0, "exit status is not 0")


def scenario_mail_over_tap(house):
    node = PortNode(house, "node", served(), "net_tap0,iface=tap0")
    node.spawn()
    until("the tap is there", lambda: sh("ip link show tap0", check=False).find("tap0:") > 0, 20)
    house.ends.append(lambda: sh("ip link del tap0", check=False))
    addresses("tap0")
    until("it greets", lambda: greeting().startswith(b"220"), 20)
    clients(node)
    offloads = node.show()["device"]["offloads"]
    need(offloads["verify_tcp"] and offloads["make_tcp"], "a tap makes and verifies checksums: %s" % offloads)
    need(node.stop() == 0, "exit status is not 0")


def scenario_mail_over_tap_in_software(house):
    """The same with checksums verified and made by us."""
    node = PortNode(house, "node", served(), "net_tap0,iface=tap0", settings={"dataplane.offloads": "no"})
    node.spawn()
    until("the tap is there", lambda: sh("ip link show tap0", check=False).find("tap0:") > 0, 20)
    addresses("tap0")
    until("it greets", lambda: greeting().startswith(b"220"), 20)
    whole_messages(node)
    need(not any(node.show()["device"]["offloads"].values()), "offloads are in use")
    need(node.stop() == 0, "exit status is not 0")


def scenario_large_messages(house):
    node = on_veth(house, {"smtp.max_message": "64MiB"})
    r = random.Random(1)
    line = [bytes(r.randrange(32, 127) for _ in range(76)) + b"\r\n" for _ in range(997)]
    for host, mib in ((FRONT4, 24), (FRONT6, 12)):
        body = b"Subject: large\r\n\r\n" + b"".join(line[i % 997] for i in range(mib * 1024 * 1024 // 78))
        begin = time.monotonic()
        ident = send(body, host)
        note("%d MiB over %s in %.2f s" % (mib, host, time.monotonic() - begin))
        same(node, ident, body, "%d MiB over %s" % (mib, host))
    node.settled()
    need(node.stop() == 0, "exit status is not 0")


# ---- many clients, several queues, the way out

def scenario_many_clients_on_three_queues(house):
    space = veth(house)
    sink = Sink(house)
    node = PortNode(house, "node", [("d%04d.test" % i, sink.port) for i in range(5)], AF_PACKET, space,
                    {"dataplane.queues": 3, "dataplane.host_rate": 0, "dataplane.network_rate": 0})
    node.start()
    acked = []
    for n, host in enumerate((FRONT4, "[%s]" % FRONT6)):
        path = os.path.join(node.dir, "ledger%d" % n)
        r = Gen(house, 25, ["-c", 60, "-n", 1500, "-m", 3, "-s", 6000, "--domains", 5, "-T", 60, "--run", "r%d" % n],
                path, host=host).run(90)
        need(r["acked"] == 1500, "%d of 1500 were acknowledged over %s: %s" % (r["acked"], host, r["replies"]))
        note("%.0f messages/s over %s" % (r["messages_per_s"], host))
        acked += ledger(path)["A"]
    show = node.show()
    shares = [q["tcp_accepted"] for q in show["queues"]]
    need(min(shares) > 0, "a worker got no connection: %s" % shares)
    need(show["counters"]["tcp_accepted"] >= 1000, "%s connections" % show["counters"]["tcp_accepted"])
    drained(house, node, space, sink, acked)


def drained(house, node, space, sink, acked):
    """The primary comes up in the front-end's namespace; everything acknowledged arrives there."""
    cmd = space.command([house.bin("satchel-sink"), "-T", "60", "--out", sink.out, "--ledger", sink.ledger,
                         "127.0.0.1:%d" % sink.port])
    sink.proc = house.start(cmd)
    until("everything is delivered", lambda: not set(acked) - set(ledger(sink.ledger)["R"]), 40, 0.1)
    until("the bag is empty", lambda: node.bagged() == 0, 20, 0.1)
    node.settled()
    need(node.stop() == 0, "exit status is not 0")
    got = sink.stop()
    need(got["duplicates"] == 0, "%d duplicates" % got["duplicates"])


def scenario_kill_9_and_sigterm_under_load(house):
    space = veth(house)
    sink = Sink(house)
    node = PortNode(house, "node", [("d%04d.test" % i, sink.port) for i in range(3)], AF_PACKET, space,
                    {"dataplane.host_rate": 0, "dataplane.network_rate": 0, "smtp.shutdown_grace": "5s"})
    node.start()
    path = os.path.join(node.dir, "ledger")
    gen = Gen(house, 25, ["-c", 8, "-d", 60, "-T", 70, "--rate", 400, "--domains", 3, "--retry"], path, FRONT4).start()
    for how in ("kill", "stop", "kill"):
        before = len(ledger(path)["A"])
        until("mail is taken before %s" % how, lambda: len(ledger(path)["A"]) > before + 200, 30, 0.05)
        if how == "kill":
            node.kill()
        else:
            need(node.stop() == 0, "SIGTERM under load: exit status is not 0")
        node.start()
    before = len(ledger(path)["A"])
    until("mail is taken at the end", lambda: len(ledger(path)["A"]) > before + 100, 30, 0.05)
    gen.proc.terminate()
    gen.proc.communicate(timeout=30)
    acked = ledger(path)["A"]
    drained(house, node, space, sink, acked)
    need_none_lost(acked, ledger(sink.ledger)["R"])
    note("%d acknowledged, 2 kills, 1 SIGTERM, lost 0" % len(acked))


# ---- the end of a service

def scenario_sigterm_lets_a_message_end(house):
    node = on_veth(house)
    busy, idle = (smtplib.SMTP(host, 25, "client.test", timeout=20) for host in (FRONT4, FRONT6))
    idle.ehlo()
    for reply in (busy.ehlo(), busy.mail("s@client.test"), busy.rcpt("u@example.test"), busy.docmd("DATA")):
        need(reply[0] in (250, 354), "%d before SIGTERM" % reply[0])
    busy.send(b"Subject: under way\r\n\r\nhalf")
    node.proc.send_signal(signal.SIGTERM)
    code, _ = idle.getreply()
    need(code == 421, "who was idle got %d, not 421" % code)
    need(greeting(seconds=1) == b"", "a new connection was taken after SIGTERM")
    busy.send(b" and half\r\n.\r\n")
    code, text = busy.getreply()
    need(code == 250, "the message under way got %d %s" % (code, text))
    ident = text.decode().split()[-1]
    busy.close()
    idle.close()
    need(node.proc.wait(20) == 0, "exit status is not 0")
    node.start()
    same(node, ident, b"Subject: under way\r\n\r\nhalf and half\r\n", "the message under way")
    node.stop()


# ---- clients turned away

def scenario_block_list_read_again(house):
    path = os.path.join(house.room("node"), "blocked")
    with open(path, "w") as f:
        f.write("# nobody here\n203.0.113.0/24\n")
    node = on_veth(house, {"dataplane.block_list": path})
    need(greeting().startswith(b"220"), "not served before it is blocked")
    with open(path, "w") as f:
        f.write("%s\n" % HERE4)
    node.proc.send_signal(signal.SIGHUP)
    until("the list is read", lambda: node.show()["blocked_networks"] == 1 and "networks=1" in node.log_text(), 5)
    need(greeting(seconds=1.5) == b"", "served though it is blocked")
    need(node.counters()["drop_blocked"] > 0, "no drop was counted as blocked")
    need(greeting(FRONT6).startswith(b"220"), "the other address is blocked too")
    with open(path, "w") as f:
        f.write("nonsense\n")
    node.proc.send_signal(signal.SIGHUP)
    until("the list is refused", lambda: "the earlier list stays" in node.log_text(), 5)
    need("blocked:1: " in node.log_text(), "the refusal names no line")
    need(greeting(seconds=1.5) == b"", "served after a list that was refused")
    with open(path, "w") as f:
        f.write("")
    node.proc.send_signal(signal.SIGHUP)
    until("it is served again", lambda: greeting(seconds=2).startswith(b"220"), 10)
    node.stop()


def scenario_early_talkers(house):
    node = on_veth(house, {"dataplane.early_talker": "700ms", "dataplane.tarpit": "1s"})
    begin = time.monotonic()
    need(greeting().startswith(b"220"), "who waits is not greeted")
    need(time.monotonic() - begin > 0.6, "the greeting did not wait")
    begin = time.monotonic()
    said = greeting(first=b"EHLO too.early\r\n")
    need(said.startswith(b"554"), "who spoke first heard %r" % said)
    need(time.monotonic() - begin > 0.9, "and at once: without the tarpit's pause")
    need(node.counters()["smtp_early_talkers"] == 1, "not counted")
    node.settled()
    node.stop()


def scenario_rates_of_one_client(house):
    node = on_veth(house, {"dataplane.host_rate": 5, "dataplane.host_burst": 10})
    held = []
    for _ in range(40):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex((FRONT4, 25))
        held.append(s)
    until("some are dropped for their rate", lambda: node.counters()["drop_rate"] > 10, 5)
    c = node.counters()
    need(10 <= c["tcp_accepted"] <= 25, "%d connections were taken of a burst of 10" % c["tcp_accepted"])
    need(greeting(FRONT6).startswith(b"220"), "another network is limited too")
    for s in held:
        s.close()
    node.stop()


def scenario_too_many_connections(house):
    node = on_veth(house, {"dataplane.connections": 3, "dataplane.host_rate": 0})
    held = [socket.create_connection((FRONT4, 25), 5) for _ in range(3)]
    for s in held:
        s.settimeout(5)
        need(s.recv(512).startswith(b"220"), "within the limit")
    said = greeting()
    need(said.startswith(b"421 4.3.2"), "above the limit: %r" % said)
    for s in held:
        s.close()
    until("there is room again", lambda: greeting().startswith(b"220"), 10)
    node.settled()
    node.stop()


# ---- the link

def checksum(data):
    data += b"\0" * (len(data) % 2)
    s = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    s = (s >> 16) + (s & 0xffff)
    return ~(s + (s >> 16)) & 0xffff


def ping(host, size=56):
    v6 = ":" in host
    family, proto, kind, reply = ((socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129) if v6 else
                                  (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0))
    data = bytes(i & 255 for i in range(size))
    packet = struct.pack("!BBHHH", kind, 0, 0, 0x5a5a, 1) + data
    if not v6:  # the kernel makes ICMPv6's
        packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
    with socket.socket(family, socket.SOCK_RAW, proto) as s:
        s.settimeout(3)
        s.sendto(packet, (host, 0))
        end = time.monotonic() + 3
        while time.monotonic() < end:
            got = s.recv(65536)
            got = got if v6 else got[(got[0] & 15) * 4:]
            if got[0] == reply and got[4:8] == packet[4:8]:
                return got[8:] == data
    return False


def scenario_the_link(house):
    """Ping, and a gateway to a network behind it."""
    space = veth(house)
    sh("ip addr add 198.51.100.9/32 dev lo && ip -6 addr add 2001:db8:9::9/128 dev lo")
    node = PortNode(house, "node", served(), AF_PACKET, space,
                    {"dataplane.gateways": [HERE4, HERE6]})
    node.start()
    for host in (FRONT4, FRONT6):
        need(ping(host), "no answer to a ping of %s" % host)
        need(ping(host, 1400), "no answer to a large ping of %s" % host)
    for host, mine in ((FRONT4, "198.51.100.9"), (FRONT6, "2001:db8:9::9")):
        with socket.create_connection((host, 25), 5, (mine, 0)) as s:
            s.settimeout(5)
            need(s.recv(512).startswith(b"220"), "no greeting behind the gateway (%s)" % mine)
    known = {n["address"] for n in node.show()["neighbours"]}
    need(known == {HERE4, HERE6}, "neighbours are %s" % known)
    c = node.counters()
    need(c["icmp_echo_replies"] == 4, "%d pings were answered" % c["icmp_echo_replies"])
    for mine in ("198.51.100.9/32", "2001:db8:9::9/128"):
        sh("ip addr del %s dev lo" % mine)
    node.stop()


def scenario_probed_addresses(house):
    space = veth(house)
    node = PortNode(house, "node", served(), AF_PACKET, space, {"dataplane.probe": "yes"})
    sh("ip addr add %s/32 dev c0" % FRONT4)  # another machine has it
    node.spawn()
    until("the conflict is told", lambda: "ip.address_conflict" in node.log_text(), 20)
    ready = {a["address"]: a["ready"] for a in node.show()["addresses"]}
    need(not ready[FRONT4 + "/24"], "an address that another machine has is used")
    until("the other address is used", lambda: greeting(FRONT6, seconds=2).startswith(b"220"), 20)
    node.stop()


# ---- the page in docs/

def scenario_the_page_for_newcomers(house):
    """What docs/dpdk.md has a newcomer type, as it stands there."""
    with open(os.path.join(ROOT, "docs/dpdk.md")) as f:
        block = re.search(r"```sh\n(make deps-test.*?)```", f.read(), re.S)[1]
    started = "build/bin/satcheld -c dpdk.yaml &\n"
    need(started in block and "kill %1" in block, "the page does not start satcheld any more")
    greets = "until ip netns exec client swaks --server 192.0.2.25 --quit-after BANNER --timeout 2 --silent 3; do :; done\n"
    block = block.replace(started, started + greets).replace("kill %1", "kill %1; wait %1")
    text = re.sub(r"(?m)^make .*\n", "", block).replace("build/bin/", house.build + "/bin/")
    p = subprocess.run(["timeout", "60", "bash", "-ec", text], cwd=house.dir, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=70)
    said = p.stdout.decode(errors="replace")
    need(p.returncode == 0, "it ends with %d: %s" % (p.returncode, said[-600:]))
    for words in (": ok", "250 2.0.0 Ok: queued as", "example.com", "bagged", "device      net_af_packet0", "tcp_accepted"):
        need(words in said, "%r is not in what it says: %s" % (words, said[-1500:]))


# ---- what an operator sees

def scenario_port_show(house):
    space = veth(house)
    node = PortNode(house, "node", served(), AF_PACKET, space, {"dataplane.queues": 2, "admin.http": "127.0.0.1:8025"})
    node.start()
    send(b"Subject: x\r\n\r\nx\r\n")
    code, said = node.ctl("port", "show")
    need(code == 0, said)
    for words in ("device      net_af_packet0, driver net_af_packet", "queues      2 on 1 of the device",
                  "addresses   192.0.2.25/24, 2001:db8::25/64, fe80::", "gateways    none", "of 100000; ",
                  "tcp_accepted", "connections accepted", HERE4, "reachable", "rx_good_packets"):
        need(words in said, "`port show` lacks %r:\n%s" % (words, said))
    need("drop_paws" not in said, "zero is shown without --all")
    need("drop_tcp_paws" in node.ctl("port", "show", "--all")[1], "--all does not show zero")
    code, said = node.ctl("port", "show", "--json")
    j = json.loads(said)
    need(j["counters"]["tcp_accepted"] >= 1 and len(j["queues"]) == 2, "JSON: %s" % said[:300])
    node.settled()
    text = subprocess.run(space.command(["python3", "-c", "import urllib.request as u; print(u.urlopen("
                                         "'http://127.0.0.1:8025/metrics').read().decode())"]), stdout=subprocess.PIPE,
                          timeout=20).stdout.decode()
    both = [line for line in text.splitlines() if line.startswith("satchel_port_tcp_accepted_total{queue=")]
    need(len(both) == 2 and sum(int(line.split()[1]) for line in both) == node.counters()["tcp_accepted"],
         "metrics: %s" % both)
    need("# TYPE satchel_port_connections gauge" in text, "metrics lack a gauge")
    need("\nsatchel_port_link_up 1\n" in text, "metrics lack the link")
    node.stop()


def scenario_without_a_port(house):
    node = Node(house, "node", served())
    node.start()
    code, said = node.ctl("port", "show")
    need(code == 1 and "this node has no DPDK port" in said and "dataplane.engine" in said, said)
    node.stop()


def refused(house, device, words, code, settings=()):
    node = PortNode(house, "node", served(), device, None, settings)
    node.spawn()
    need(node.proc.wait(30) == code, "exit status %d, not %d: %s" % (node.proc.returncode, code, node.tail()))
    for w in words:
        need(w in node.tail(), "%r is not in: %s" % (w, node.tail()))


def scenario_a_start_that_fails(house):
    refused(house, "net_af_packet0,iface=nosuch", ["step=port", "No such device", "interface that it names exist"], 69)
    refused(house, "net_null0", ["there are: net_null0", "dataplane.device"], 69, {"dataplane.device": "net_tap0"})
    refused(house, "net_null0", ["satcheld.yaml:", "dataplane.gateways", "in none of our networks"], 78,
            {"dataplane.gateways": ["198.51.100.1"]})
    if sh("cat /proc/sys/vm/nr_hugepages").strip() == "0":
        refused(house, "net_null0", ["sysctl vm.nr_hugepages=512", "--no-huge"], 69,
                {"dataplane.eal": ["--no-pci", "--vdev=net_null0"]})


def scenario_as_another_user(house):
    os.chmod(house.short, 0o777)  # where its socket lies
    node = on_veth(house, {"user": "nobody"})
    ident = send(b"Subject: x\r\n\r\nx\r\n")
    with open("/proc/%d/status" % node.proc.pid) as f:
        uid = [line.split()[1] for line in f if line.startswith("Uid:")][0]
    need(uid != "0", "it still runs as root")
    same(node, ident, b"Subject: x\r\n\r\nx\r\n", "a message")
    need(node.stop() == 0, "exit status is not 0")
    need("level=error" not in node.log_text(), "errors: " + node.tail())


def scenario_sockets_beside_the_port(house):
    space = veth(house)
    node = PortNode(house, "node", served(), AF_PACKET, space, {"listen": ["127.0.0.1:2525"]})
    node.start()
    send(b"Subject: port\r\n\r\n\r\n")
    p = subprocess.run(space.command(["swaks", "--server", "127.0.0.1:2525", "--to", "u@example.test", "--helo", "x.test",
                                      "--silent", "3"]), stdin=subprocess.DEVNULL, timeout=30)
    need(p.returncode == 0, "swaks over the kernel's TCP ended with %d" % p.returncode)
    until("both are bagged", lambda: node.bagged() == 2, 5)
    need(node.stop() == 0, "exit status is not 0")
