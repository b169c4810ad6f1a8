"""wire.py - network namespaces, and satcheld with its own TCP on DPDK's virtual devices in them.

private() goes on in network and mount namespaces of the run's own: whatever is made in them is gone when the run ends,
however it ends.  The kernel's end of each wire lies here, with 192.0.2.1 and 2001:db8::1; satcheld serves 192.0.2.25 and
2001:db8::25.
"""
import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys

from programs import Failed, Node, until

FRONT4, FRONT6 = "192.0.2.25", "2001:db8::25"
HERE4, HERE6 = "192.0.2.1", "2001:db8::1"
INSIDE = "SATCHEL_DPDK_INSIDE"


def sh(command, check=True):
    p = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=60)
    if check and p.returncode:
        raise Failed("%s: %s" % (command, p.stdout.decode(errors="replace").strip()))
    return p.stdout.decode(errors="replace")


def why_not(build):
    """Why nothing of this can be run here; empty: it can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces and raw sockets"
    for program in ("ip", "unshare", "ethtool"):
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return "no %s here: make deps-test" % program
    if not os.path.exists(os.path.join(build, "with-dpdk-yes")):
        return "built without DPDK: make deps-test, and build again"
    if subprocess.run(["unshare", "--net", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        return "no network namespaces here"
    return ""


def private():
    if not os.environ.get(INSIDE):
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable] + sys.argv)
    os.makedirs("/run/netns", exist_ok=True)
    sh("mount -t tmpfs netns /run/netns && ip link set lo up")


def addresses(interface, prefix4=24, prefix6=64):
    sh("ip link set %s up && ip addr add %s/%d dev %s && ip -6 addr add %s/%d dev %s nodad" %
       (interface, HERE4, prefix4, interface, HERE6, prefix6, interface))


def sums_made(interface, made=True):
    """Does the kernel make checksums itself on this interface?  af_packet at the other end of a veth gets them
    unmade otherwise, and segments larger than the link."""
    sh("ethtool -K %s tx %s" % (interface, "off" if made else "on"))


class Namespace:
    def __init__(self, house, name):
        self.name = name
        sh("ip netns add %s && ip -n %s link set lo up" % (name, name))
        house.ends.append(lambda: sh("ip netns del " + name))

    def command(self, cmd):
        return ["ip", "netns", "exec", self.name] + cmd


def veth(house, here="c0", there="s0", space=None):
    """A veth pair: `there` in a namespace of the front-end's own, without an address; `here` with ours."""
    space = space or Namespace(house, "front")
    sh("ip link add %s type veth peer name %s netns %s" % (here, there, space.name))
    house.ends.append(lambda: sh("ip link del " + here, check=False))
    # the kernel must have no part in it: its link-local address would be made of the same MAC as ours
    sh("ip netns exec %s sysctl -q -w net.ipv6.conf.%s.disable_ipv6=1" % (space.name, there))
    sh("ip -n %s link set %s up" % (space.name, there))
    sums_made(here)
    addresses(here)
    return space


class PortNode(Node):
    """satcheld on a port.  device: what --vdev takes; space: where it runs; NULL: here."""
    host = FRONT4

    def __init__(self, house, name, domains, device, space=None, settings=()):
        self.space = space
        tree = {"listen": [], "dataplane.engine": "dpdk",
                "dataplane.eal": ["--no-huge", "--no-pci", "--vdev=" + device],
                "dataplane.addresses": [FRONT4 + "/24", FRONT6 + "/64"],
                "dataplane.probe": "no", "dataplane.bogons": "no"}
        tree.update(dict(settings))
        super().__init__(house, name, domains, tree)
        self.port = 25

    def spawn(self):
        cmd = [self.house.bin("satcheld"), "-c", self.config]
        with open(self.log, "ab") as log:
            self.proc = self.house.start(self.space.command(cmd) if self.space else cmd, stdout=log, stderr=log)
        return self.proc

    def show(self):
        """There for whoever has been greeted."""
        return self.admin("GET", "/v1/port")

    def counters(self):
        return self.show()["counters"]

    def settled(self):
        """The counters once nothing is open any more."""
        def closed():
            c = self.counters()
            return c if c["connections"] == 0 and c["receive_pages"] == 0 and c["send_blocks"] == 0 else None
        return until("no connection, page or block is held", closed, 20)

    def view(self, ident):
        """A message as it lies in the spool, without the trace field that we put in front."""
        def free():
            p = self.satchelctl("queue", "view", ident)
            claimed = b"being delivered or moved right now" in p.stderr  # by a probe of its primary, for a moment
            if p.returncode and not claimed:
                raise Failed("queue view %s: %s" % (ident, p.stderr.decode(errors="replace")))
            return None if claimed else p
        p = until("message %s is not claimed" % ident, free, 10)
        return re.sub(rb"\AReceived:.*?\r\n(?![ \t])", b"", p.stdout, count=1, flags=re.S)

    def queued(self):
        return [m["id"] for m in self.admin("GET", "/v1/queue?limit=10000")["messages"]]


def send(body, host=FRONT4, rcpt="u@example.test", sender="s@client.test", seconds=60, port=25):
    """One message as it is (CRLF, dots not yet doubled); returns the ID that the 250 names."""
    with smtplib.SMTP(host, port, "client.test", timeout=seconds) as s:
        s.ehlo()
        for reply in (s.mail(sender), s.rcpt(rcpt), s.docmd("DATA")):
            if reply[0] not in (250, 354):
                raise Failed("%d %s" % (reply[0], reply[1].decode(errors="replace")))
        s.send(re.sub(rb"(?m)^\.", b"..", body) + b".\r\n")
        code, text = s.getreply()
        if code != 250:
            raise Failed("%d %s" % (code, text.decode(errors="replace")))
        return text.decode().split()[-1]


def greeting(host=FRONT4, port=25, first=b"", seconds=5):
    """What is heard first by who says `first` at once; empty: nothing, or no connection."""
    try:
        with socket.create_connection((host, port), seconds) as s:
            s.settimeout(seconds)
            s.sendall(first)
            return s.recv(512)
    except OSError:
        return b""
