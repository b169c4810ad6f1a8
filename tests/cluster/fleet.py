"""fleet.py - a cluster of real processes: etcd and satcheld, each started, stopped and killed by its own process id.

Everything lies in one House (tests/ledger/programs.py) and ends with it.  Conditions are asked of the admin sockets and
waited for with a bound.  Where wires.py has a network, each node has a namespace in it.
"""
import base64
import ctypes
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request

import wires

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "ledger"))
from programs import ROOT, Failed, House, Node, Sink, free_port, until  # noqa: E402

LEASE_S = 3
libc = ctypes.CDLL(None)


def end_with_parent():
    """A test that is killed leaves nothing behind (PR_SET_PDEATHSIG)."""
    libc.prctl(1, signal.SIGKILL)


class Home(House):
    def start(self, cmd, **kw):
        return super().start(cmd, preexec_fn=end_with_parent, **kw)


PASSWORD = "s3cret of the fleet"


class Etcd:
    """One to three members.  secure: TLS, clients need a certificate and a user."""

    def __init__(self, house, members=1, secure=False):
        self.house, self.host = house, wires.HUB if wires.have() else "127.0.0.1"
        self.ports = [free_port() for _ in range(members)]
        self.peer_ports = [free_port() for _ in range(members)]
        self.procs = [None] * members
        self.dir = house.room("etcd")
        self.secure = secure
        self.tls, self.settings = None, {}
        if secure:
            self.make_secrets()

    def make_secrets(self):
        """One certificate for all.  No CN: etcd 3.4 would take that for the name of a user."""
        cert, key, word = (os.path.join(self.dir, name) for name in ("cert.pem", "key.pem", "password"))
        p = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-days", "2", "-subj", "/O=satchel test", "-addext",
                            "subjectAltName=IP:%s,IP:127.0.0.1" % self.host, "-keyout", key, "-out", cert],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if p.returncode:
            raise Failed("openssl: " + p.stderr.decode(errors="replace"))
        with open(word, "w") as f:
            f.write(PASSWORD + "\n")
        os.chmod(word, 0o600)
        self.tls = ssl.create_default_context(cafile=cert)
        self.tls.load_cert_chain(cert, key)
        self.settings = {"cluster.etcd_ca": cert, "cluster.etcd_cert": cert, "cluster.etcd_key": key,
                         "cluster.etcd_user": "satchel", "cluster.etcd_password_file": word}

    def call(self, path, body):
        """A call of etcd's JSON gateway, as root."""
        data = json.dumps(body).encode()
        with urllib.request.urlopen(self.urls()[0] + path, data, timeout=10, context=self.tls) as r:
            return json.load(r)

    def make_users(self):
        """root, as etcd wants one, and a user that may touch /satchel/main/ alone."""
        def text(s):
            return base64.b64encode(s.encode()).decode()
        for name, password in ("root", "r"), ("satchel", PASSWORD):
            self.call("/v3/auth/user/add", {"name": name, "password": password})
            self.call("/v3/auth/role/add", {"name": name})
        self.call("/v3/auth/role/grant", {"name": "satchel", "perm": {
            "permType": "READWRITE", "key": text("/satchel/main/"), "range_end": text("/satchel/main0")}})
        for name in "root", "satchel":
            self.call("/v3/auth/user/grant", {"user": name, "role": name})
        self.call("/v3/auth/enable", {})

    def urls(self):
        return ["http%s://%s:%d" % ("s" if self.secure else "", self.host, p) for p in self.ports]

    def spawn(self, i=0):
        peers = ["http://127.0.0.1:%d" % p for p in self.peer_ports]
        cmd = ["etcd", "--name", "m%d" % i, "--data-dir", os.path.join(self.dir, "m%d" % i), "--log-level", "warn",
               "--listen-client-urls", self.urls()[i], "--advertise-client-urls", self.urls()[i],
               "--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
               "--initial-cluster", ",".join("m%d=%s" % (n, p) for n, p in enumerate(peers))]
        if self.secure:
            cert, key = self.settings["cluster.etcd_cert"], self.settings["cluster.etcd_key"]
            cmd += ["--cert-file", cert, "--key-file", key, "--trusted-ca-file", cert, "--client-cert-auth"]
        with open(os.path.join(self.dir, "m%d.log" % i), "ab") as log:
            self.procs[i] = self.house.start(cmd, stdout=log, stderr=log)

    def start(self, which=None):
        for i in which if which is not None else range(len(self.ports)):
            self.spawn(i)
        until("etcd answers", self.answers, 30, 0.05)
        if self.secure and which is None:
            self.make_users()
        return self

    def healthy(self, i=0):
        """Has member i a leader?"""
        try:
            with urllib.request.urlopen(self.urls()[i] + "/health", timeout=2, context=self.tls) as r:
                return json.load(r)["health"] == "true"
        except (OSError, ValueError):
            return False

    def answers(self):
        return any(p and p.poll() is None and self.healthy(i) for i, p in enumerate(self.procs))

    def kill(self, which=None):
        for i in which if which is not None else range(len(self.ports)):
            self.procs[i].kill()
            self.procs[i].wait()

    def snapshot(self, path):
        self.ctl("--endpoints", self.urls()[0], "snapshot", "save", path)

    def restore(self, path):
        """As docs/operations.md says it; the only member is not running."""
        where = os.path.join(self.dir, "m0")
        peer = "http://127.0.0.1:%d" % self.peer_ports[0]
        shutil.rmtree(where)
        self.ctl("snapshot", "restore", path, "--name", "m0", "--data-dir", where, "--initial-cluster", "m0=" + peer,
                 "--initial-advertise-peer-urls", peer)

    @staticmethod
    def ctl(*words):
        p = subprocess.run(("etcdctl",) + words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                           env=dict(os.environ, ETCDCTL_API="3"))
        if p.returncode:
            raise Failed("etcdctl %s: %s" % (" ".join(words), p.stderr.decode(errors="replace")))

    def freeze(self, i):
        self.procs[i].send_signal(signal.SIGSTOP)

    def thaw(self, i):
        self.procs[i].send_signal(signal.SIGCONT)

    def used_by(self, node):
        """The member that this node talks to."""
        return self.urls().index(node.local()["coordination"]["endpoint"])


class Member(Node):
    """One node of a cluster."""

    def __init__(self, cluster, name, at, settings, room=None):
        house = cluster.house
        self.cluster, self.wire, self.node = cluster, None, name
        self.stopped = False
        if wires.have():
            self.host = "10.77.0.%d" % (10 + at)
            self.wire = cluster.wire(self.host)
        self.peer_port = free_port()
        super().__init__(house, room or name, [], settings)

    def write_config(self, domains, settings):
        certs = self.cluster.certs
        name = self.node
        tree = {"hostname": name + ".test", "spool.segment": "8MiB", "spool.spare_segments": 2, "smtp.workers": 1,
                "smtp.shutdown_grace": "10s",
                "cluster.node": name, "cluster.etcd": self.cluster.etcd.urls(),
                "cluster.listen": "%s:%d" % (self.host, self.peer_port),
                "cluster.address": "%s:%d" % (self.host, self.peer_port), "cluster.ca": certs + "/ca.pem",
                "cluster.cert": "%s/%s.pem" % (certs, name), "cluster.key": "%s/%s.key" % (certs, name),
                "cluster.lease": "%ds" % LEASE_S}
        tree.update(self.cluster.etcd.settings)
        tree.update(settings)
        super().write_config(domains, tree)

    def spawn(self):
        cmd = [self.house.bin("satcheld"), "-c", self.config]
        with open(self.log, "ab") as log:
            self.proc = self.house.start((self.wire.inside() if self.wire else []) + cmd, stdout=log, stderr=log)
        self.stopped = False
        return self.proc

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def freeze(self):
        self.proc.send_signal(signal.SIGSTOP)
        self.stopped = True

    def thaw(self):
        self.proc.send_signal(signal.SIGCONT)
        self.stopped = False

    def wipe(self):
        """The disk is gone: a new one, empty."""
        shutil.rmtree(self.data)

    # ---- asking it

    def local(self):
        """What it says of itself; {} where it does not answer."""
        try:
            return self.admin("GET", "/v1/cluster?local=1", seconds=5)
        except (OSError, Failed):
            return {}

    def shards(self):
        try:
            return self.admin("GET", "/v1/shards?limit=20000", seconds=5)["shards"]
        except (OSError, Failed):
            return []

    def serves(self):
        return [d["name"] for d in self.admin("GET", "/v1/domains?limit=10000")["domains"]]

    def shard(self, name):
        return self.admin("GET", "/v1/shards/" + name, seconds=5)

    def leased(self):
        """May it relay now?"""
        return self.local().get("lease", {}).get("left_s", 0) > 0

    def json(self, *words):
        code, text = self.ctl("--json", *words)
        if code:
            raise Failed("satchelctl %s on %s: %s" % (" ".join(words), self.name, text.strip()))
        return json.loads(text)

    def do(self, *words):
        code, text = self.ctl(*words)
        if code:
            raise Failed("satchelctl %s on %s: %s" % (" ".join(words), self.name, text.strip()))
        return text

    def refused(self, *words):
        """A command that must fail; what it says."""
        code, text = self.ctl(*words)
        if code == 0:
            raise Failed("satchelctl %s on %s was not refused: %s" % (" ".join(words), self.name, text.strip()))
        return text


class Cluster:
    """Nodes, etcd, and domains whose primary is one sink address."""

    def __init__(self, house, names="abc", copies=3, acks=2, shards=12, etcd_members=1, etcd_secure=False,
                 settings=(), special=()):
        self.house = house
        self.certs = house.room("certs")
        self.special, self.spec = dict(special), dict(settings)  # special: settings of single nodes
        self.spec.update({"cluster.copies": copies, "cluster.acks": acks, "cluster.shards": shards})
        self.etcd = Etcd(house, etcd_members, etcd_secure)
        self.sink_host, self.sink_port = wires.HUB if wires.have() else "127.0.0.1", free_port()
        self.live_port = free_port()
        self.wires, self.sinks = [], 0
        self.nodes, self.strangers = {}, 0
        self.make_certs(names)
        for name in names:
            self.add(name)
        house.ends.append(self.remove_wires)

    def wire(self, address):
        self.wires.append(wires.Wire(address))
        return self.wires[-1]

    def remove_wires(self):
        for p in self.house.procs:
            if p.poll() is None:
                p.kill()
        for w in self.wires:
            w.remove()

    def make_certs(self, names, where=None):
        p = subprocess.run([os.path.join(ROOT, "scripts/cluster-certs"), where or self.certs] + list(names),
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if p.returncode:
            raise Failed("cluster-certs: " + p.stderr.decode(errors="replace"))

    def add(self, name):
        """A node that is not started yet."""
        own = dict(self.spec, **self.special.get(name, {}))
        self.nodes[name] = Member(self, name, len(self.nodes), own)
        return self.nodes[name]

    def stranger(self, called, **settings):
        """A node that is none of ours; not started, and not waited for by settle()."""
        own = dict(self.spec, **{"cluster." + key: value for key, value in settings.items()})
        self.strangers += 1
        return Member(self, called, 20 + self.strangers, own, room="stranger%d" % self.strangers)

    def __getitem__(self, name):
        return self.nodes[name]

    def live(self):
        return [n for n in self.nodes.values() if n.alive() and not n.stopped]

    def start(self, seconds=60):
        self.etcd.start()
        first, *others = self.nodes.values()
        first.start()
        until("%s makes the cluster" % first.name, first.leased, 20)
        for n in others:
            n.spawn()
        self.heal(seconds)
        return self

    def heal(self, seconds=60):
        """Starts and thaws what is not running, mends wires, and waits until all is as it should be."""
        for w in self.wires:
            w.mend()
        for n in self.nodes.values():
            if n.stopped and n.alive():
                n.thaw()
            elif not n.alive():
                n.spawn()
        for i, p in enumerate(self.etcd.procs):
            if p is None or p.poll() is not None:
                self.etcd.spawn(i)
        self.settle(seconds=seconds)

    # ---- how it is

    def unsettled(self):
        """Why not every shard is owned, with all its copies in sync and no move under way; empty: it is so."""
        nodes = {n.name: n for n in self.live()}
        owners, states = {}, {}
        for n in nodes.values():
            said = n.local()
            if not said.get("lease", {}).get("held"):
                return "%s has no lease%s" % (n.name, ": " + said["refused"] if said.get("refused") else "")
            shards = n.shards()
            if not shards:
                return "%s knows no shards" % n.name
            for s in shards:
                owners.setdefault(s["name"], {})[n.name] = s["owner"]
                if s["owner"] == n.name:
                    states[s["name"]] = s
            if said["copies"]["under_replicated"] or said["leadership"]["moves_under_way"]:
                return "%s: copies %s, leadership %s" % (n.name, said["copies"], said["leadership"])
        for name, who in sorted(owners.items()):
            s = states.get(name)
            if len(set(who.values())) != 1 or not s:
                return "shard %s is owned by %s" % (name, who)
            if s["state"] != "owned" or s["former"] or s["next"] or set(s["synced"]) != set(s["members"]):
                return "shard %s: %s" % (name, s)
        return ""

    def settle(self, seconds=60):
        """Waits until the cluster is as it should be; returns the seconds it took."""
        begin, why = time.monotonic(), [""]

        def settled():
            dead = [n.name for n in self.nodes.values() if n.proc and n.proc.poll() is not None and not n.stopped]
            for name in dead:
                if self.nodes[name].proc.returncode > 0:
                    raise Failed("%s ended with %d: %s" % (name, self.nodes[name].proc.returncode,
                                                           self.nodes[name].tail()))
            why[0] = self.unsettled()
            return not why[0]
        try:
            until("the cluster is in order", settled, seconds, 0.1)
        except Failed as e:
            raise Failed("%s: %s" % (e, why[0] or "it ended")) from None
        return time.monotonic() - begin

    def owner(self, domain, via=None):
        node = via or self.live()[0]
        name = node.shard(domain)["owner"]
        return self.nodes.get(name)

    def full_owner(self, domains, but=()):
        """The node that owns most of these domains."""
        count = {}
        for d in domains:
            o = self.owner(d)
            if o and o.name not in but:
                count[o.name] = count.get(o.name, 0) + 1
        return self.nodes[max(count, key=count.get)]

    def bagged(self):
        """Live messages on each node that answers, of the storage, copies and all."""
        return {n.name: n.local().get("storage", {}).get("messages") for n in self.live()}

    # ---- mail

    def serve(self, names, pool=None, port=None, via=None):
        node = via or self.live()[0]
        for name in names:
            body = {"name": name, "primaries": ["%s:%d" % (self.sink_host, port or self.sink_port)]}
            if pool:
                body["pool"] = pool
            node.admin("POST", "/v1/domains", body)
        until("all nodes serve %s" % names[-1], lambda: all(names[-1] in n.serves() for n in self.live()), 5)

    def sink(self, args=(), port=None):
        """A sink for the domains; not started."""
        self.sinks += 1
        return Sink(self.house, "sink%d" % self.sinks, port or self.sink_port, args, self.sink_host)

    def tails(self, lines=12):
        """The ends of all logs, for who looks for the cause of a failure."""
        for n in self.nodes.values():
            if n.proc and n.proc.poll() is not None:
                print("  | %s: ended with %d" % (n.name, n.proc.returncode))
            if os.path.exists(n.log):
                told = [line for line in n.log_text().splitlines() if "event=relay." not in line]
                for line in told[-lines:]:
                    print("  | %s: %s" % (n.name, line[:260]))
