"""wires.py - a network of our own: each node in a namespace, joined by a bridge, with wires that can be cut.

enter() starts the calling program again inside a network and a mount namespace of its own.  There the bridge stands,
with etcd, clients and sinks beside it, and nothing of it outlives the last process.  It needs root and iproute2; without
them nodes listen on loopback, and what cuts wires is skipped.

    10.77.0.1       the bridge: etcd, clients, sinks
    10.77.0.10+i    node i, in the namespace named after it
"""
import os
import shutil
import subprocess
import sys

INSIDE = "SATCHEL_TEST_NETWORK"
HUB = "10.77.0.1"


def have():
    """Are we inside?"""
    return INSIDE in os.environ


def run(*words):
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                   timeout=20)


def enter():
    """Returns inside (having started the program again), or outside where this machine does not allow it."""
    if have():
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "name", "hub0", "type", "bridge")
        run("ip", "addr", "add", HUB + "/24", "dev", "hub0")
        run("ip", "link", "set", "hub0", "up")
        return
    tools = all(shutil.which(t, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
                for t in ("unshare", "nsenter", "ip", "iptables", "mount"))
    if os.geteuid() != 0 or not tools:
        return
    probe = ["unshare", "--net", "--mount", "sh", "-c",
             "mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip netns add probe && "
             "ip link add name hub0 type bridge && ip link add name v0 type veth peer name w0 netns probe && "
             "nsenter --net=/run/netns/probe iptables -A INPUT -s 10.77.0.9 -j DROP"]
    if subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=20).returncode:
        return
    os.environ[INSIDE] = "1"
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable] + sys.argv)


class Wire:
    """The namespace of one node and its wire to the bridge."""
    made = 0

    def __init__(self, address):
        Wire.made += 1
        self.name, self.address = "n%d" % Wire.made, address
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", "name", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "link", "set", self.name, "master", "hub0", "up")
        for words in (("ip", "link", "set", "lo", "up"), ("ip", "addr", "add", address + "/24", "dev", "eth0"),
                      ("ip", "link", "set", "eth0", "up")):
            run(*self.inside(), *words)

    def inside(self):
        """What stands in front of a command that is to run there."""
        return ["nsenter", "--net=/run/netns/" + self.name]

    def cut(self, address, ports=(), directions="both"):
        """From now on nothing goes to or comes from there (ports: only of these TCP ports there).  Silently: neither
        end hears of it."""
        for chain, flag, side in (("OUTPUT", "-d", "--dport"), ("INPUT", "-s", "--sport")):
            if directions not in ("both", "out" if chain == "OUTPUT" else "in"):
                continue
            for match in [["-p", "tcp", side, str(p)] for p in ports] or [[]]:
                run(*self.inside(), "iptables", "-A", chain, flag, address, *match, "-j", "DROP")

    def mend(self):
        run(*self.inside(), "iptables", "-F")

    def remove(self):
        """At once: the namespace itself lives until its last process has died, which may take its time on a busy disk,
        and would answer for an address that the next cluster has."""
        run("ip", "link", "del", self.name)
        run("ip", "netns", "del", self.name)
