"""programs.py - real programs under test, each in a directory and on ports of its own: satcheld, satchel-gen,
satchel-sink, a private Postfix.  Used by tests/ledger, bench/run and scripts/demo.  Standard library only.

Nothing here waits by sleeping blindly: until() polls a condition, with a bound.  Everything started is ended by its
process id in House.close(), also when the caller fails.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Failed(Exception):
    """A scenario failed; the text says why."""


def until(what, condition, seconds=30.0, pause=0.02):
    """Polls until condition() is true and returns its value; Failed names `what` when time is over."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed("%s: not within %.0f s" % (what, seconds))
        time.sleep(pause)


_ports = set()


def free_port():
    """A loopback port that nobody listens on, below the ephemeral range, never given out twice."""
    for port in range(21000 + os.getpid() % 97 * 100, 32000):
        if port in _ports:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports.add(port)
        return port
    raise Failed("no free port")


def answers(port, greeting=b"220", host="127.0.0.1"):
    """Does an SMTP server greet on this port?"""
    try:
        with socket.create_connection((host, port), 2) as s:
            s.settimeout(2)
            return s.recv(512).startswith(greeting)
    except OSError:
        return False


def open_to_others(path):
    """May any user reach this directory?  Postfix runs as its own user."""
    path = os.path.abspath(path)
    while path != "/":
        if os.path.exists(path) and not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def unix_request(path, method, target, body=None, seconds=20):
    """The status and the body of the answer to a request, of JSON or nothing, on a Unix socket."""
    c = UnixHTTP(path, seconds)
    try:
        c.request(method, target, body, {"Content-Type": "application/json"} if body is not None else {})
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


class Node:
    """satcheld, standing alone."""
    host = "127.0.0.1"

    def __init__(self, house, name, domains, settings=(), data_dir=None):
        self.house, self.name = house, name
        self.dir = house.room(name)
        self.data = data_dir or os.path.join(self.dir, "data")
        self.port = free_port()
        # a socket's path is at most 107 characters
        self.socket = os.path.join(house.short, name + ".sock")
        self.config = os.path.join(self.dir, "satcheld.yaml")
        self.log = os.path.join(self.dir, "log")
        self.proc = None
        self.write_config(domains, dict(settings))

    def write_config(self, domains, settings):
        tree = {"hostname": "bag.test", "listen": ["%s:%d" % (self.host, self.port)], "data_dir": self.data,
                "admin.socket": self.socket, "admin.http": "", "log.messages": "no",
                "relay.probe_min": "200ms", "relay.probe_max": "500ms", "relay.retry_min": "500ms",
                "relay.retry_max": "2s", "relay.dsn": "no"}
        tree.update(settings)
        nested = {}
        for key, value in tree.items():
            at = nested
            *above, last = key.split(".")
            for part in above:
                at = at.setdefault(part, {})
            at[last] = value
        if domains:
            nested["domains"] = [{"name": n, "primary": ["127.0.0.1:%d" % p]} for n, p in domains]
        with open(self.config, "w") as f:
            f.write("# made by tests/ledger/programs.py\n" + yaml(nested))

    def spawn(self):
        with open(self.log, "ab") as log:
            self.proc = self.house.start(self.house.near + [self.house.bin("satcheld"), "-c", self.config],
                                         stdout=log, stderr=log)
        return self.proc

    def start(self, seconds=30):
        """Starts and returns the seconds until the first greeting."""
        begin = time.monotonic()
        self.spawn()

        def up():
            if self.proc.poll() is not None:
                raise Failed("%s ended with %s: %s" % (self.name, self.proc.returncode, self.tail()))
            return answers(self.port, host=self.host)
        until("%s greets" % self.name, up, seconds, 0.005)
        return time.monotonic() - begin

    def kill(self):
        self.proc.kill()
        self.proc.wait()

    def stop(self, seconds=40):
        """SIGTERM; returns the exit status."""
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failed("%s does not end on SIGTERM: %s" % (self.name, self.tail()))
        return self.proc.returncode if self.proc else 0

    def tail(self, lines=3):
        with open(self.log, errors="replace") as f:
            return " | ".join(f.read().splitlines()[-lines:])

    def log_text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def admin(self, method, path, body=None, seconds=20):
        code, data = self.request(method, path, json.dumps(body) if body is not None else None, seconds)
        if code >= 300:
            raise Failed("%s %s: %d %s" % (method, path, code, data[:200]))
        return json.loads(data) if data else None

    def request(self, method, path, body, seconds):
        return unix_request(self.socket, method, path, body, seconds)

    def status(self):
        return self.admin("GET", "/v1/status")

    def bagged(self):
        return self.status()["queue"]["messages"]

    def counter(self, name):
        return self.status()["counters"].get(name, 0)

    def ctl(self, *args):
        p = self.satchelctl(*args)
        return p.returncode, (p.stdout + p.stderr).decode(errors="replace")

    def satchelctl(self, *args):
        return self.run([self.house.bin("satchelctl"), "--socket", self.socket] + list(args))

    def run(self, cmd):
        """A program on the node's machine."""
        return subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


def yaml(value, indent=0):
    """Just enough YAML for a configuration: mappings, lists, scalars."""
    pad, out = "  " * indent, ""
    if isinstance(value, dict):
        for k, v in value.items():
            if isinstance(v, (dict, list)):
                out += "%s%s:\n%s" % (pad, k, yaml(v, indent + 1))
            else:
                out += "%s%s: %s\n" % (pad, k, scalar(v))
    else:
        for v in value:
            if isinstance(v, dict):
                lines = yaml(v, indent + 1).splitlines(True)
                out += "%s- %s%s" % (pad, lines[0].lstrip(), "".join(lines[1:]))
            else:
                out += "%s- %s\n" % (pad, scalar(v))
    return out


def scalar(v):
    text = str(v)
    return text if text in ("yes", "no") or text.isdigit() else '"%s"' % text


class Sink:
    """satchel-sink: counts, stores nothing."""

    def __init__(self, house, name="sink", port=None, args=(), host="127.0.0.1"):
        self.house, self.port, self.host = house, port or free_port(), host
        self.out = os.path.join(house.room(name), "summary.%d.json" % self.port)
        self.ledger = os.path.join(house.room(name), "ledger.%d" % self.port)
        self.args = list(args)
        self.proc = None

    def start(self, ledger=True, seconds=600, far=False):
        cmd = (self.house.far if far else []) + [self.house.bin("satchel-sink"), "-T", str(seconds), "--out", self.out] + self.args
        if ledger:
            cmd += ["--ledger", self.ledger]
        self.proc = self.house.start(cmd + ["%s:%d" % (self.host, self.port)])
        until("the sink greets", lambda: answers(self.port, host=self.host), 10)
        return self

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        self.proc.wait(20)
        return self.summary()

    def wait(self, seconds):
        try:
            self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed("the sink did not get all within %d s: %s" % (seconds, self.stop()))
        return self.summary()

    def summary(self):
        with open(self.out) as f:
            return json.load(f)


class Gen:
    """satchel-gen: acknowledged messages are in its ledger."""

    def __init__(self, house, port, args=(), ledger=None, host="127.0.0.1"):
        self.house = house
        self.ledger = ledger
        cmd = house.far + [house.bin("satchel-gen"), "--json"] + [str(a) for a in args]
        if ledger:
            cmd += ["--ledger", ledger]
        self.cmd = cmd + ["%s:%d" % (host, port)]
        self.proc = None

    def start(self):
        self.proc = self.house.start(self.cmd, stdout=subprocess.PIPE)
        return self

    def wait(self, seconds=120):
        try:
            out, _ = self.proc.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            raise Failed("the generator did not end within %d s" % seconds)
        return json.loads(out)

    def run(self, seconds=120):
        return self.start().wait(seconds)


class Postfix:
    """A private Postfix (bench/postfix.sh): role `primary` or `queue`.  Needs root."""

    def __init__(self, house, name, role, next_port=None, port=None):
        self.house, self.role, self.next_port = house, role, next_port
        self.dir = house.room(name)
        self.port = port or free_port()
        self.running = False
        self.files, self.grown = -1, 0.0  # of the maildir, for who waits until it has all

    def script(self, *args):
        p = subprocess.run([os.path.join(ROOT, "bench/postfix.sh")] + list(args), stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=60)
        if p.returncode:
            raise Failed("postfix.sh %s: %s" % (args[0], p.stdout.decode(errors="replace").strip()))

    def start(self):
        extra = ["127.0.0.1:%d" % self.next_port] if self.next_port else []
        self.script(self.role, self.dir, str(self.port), *extra)
        self.running = True
        self.house.ends.append(self.stop)
        until("Postfix greets", lambda: answers(self.port), 20)
        return self

    def master(self):
        with open(os.path.join(self.dir, "queue/pid/master.pid")) as f:
            return int(f.read())

    def stop(self):
        if self.running:
            pid = self.master()
            self.script("stop", self.dir)
            until("Postfix ends", lambda: not os.path.exists("/proc/%d" % pid), 30)
            self.running = False

    def release(self):
        self.script("release", self.dir)

    def delivered(self):
        """The files of the maildir, whole messages only."""
        box = os.path.join(self.dir, "mail/inbox/new")
        return [os.path.join(box, n) for n in os.listdir(box)] if os.path.isdir(box) else []

    @staticmethod
    def why_not():
        """Why Postfix cannot be used here; empty: it can."""
        if os.geteuid() != 0:
            return "Postfix's master needs root"
        if not shutil.which("postfix", path=os.environ.get("PATH", "") + ":/usr/sbin"):
            return "no Postfix here: make deps-test"
        return ""


class House:
    """A directory for all that a run makes, and the list of what must be ended."""

    def __init__(self, build, name):
        self.build = os.path.abspath(build)
        base = os.path.join(self.build, name)
        self.elsewhere = not open_to_others(os.path.dirname(base)) and os.geteuid() == 0
        if self.elsewhere:
            base = os.path.join("/var/tmp", "satchel-%s-%d" % (name, os.getpid()))
        shutil.rmtree(base, ignore_errors=True)
        os.makedirs(base)
        os.chmod(base, 0o755)
        self.dir = base
        self.short = tempfile.mkdtemp(prefix="satchel.")
        self.procs, self.ends = [], []
        self.far = []  # command in front of the programs at the far end of a wire (bench/run: taskset)
        self.near = []  # ... in front of satcheld

    def bin(self, program):
        path = os.path.join(self.build, "bin", program)
        if not os.path.exists(path):
            raise Failed("%s is not built: make" % path)
        return path

    def room(self, name):
        path = os.path.join(self.dir, name)
        os.makedirs(path, exist_ok=True)
        return path

    def start(self, cmd, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        p = subprocess.Popen(cmd, **kw)
        self.procs.append(p)
        return p

    def close(self, keep=False):
        for end in reversed(self.ends):
            try:
                end()
            except (Failed, OSError) as e:
                print("# while cleaning up: %s" % e)
        for p in self.procs:
            if p.poll() is None:
                p.kill()
            p.wait()
        self.procs, self.ends = [], []
        shutil.rmtree(self.short, ignore_errors=True)
        if self.elsewhere and not keep:
            shutil.rmtree(self.dir, ignore_errors=True)


def ledger(path):
    """A ledger's tokens by kind: {"S": [...], "A": [...], "R": [...]}, in order."""
    kinds = {"S": [], "A": [], "F": [], "R": []}
    if os.path.exists(path):
        with open(path) as f:
            for line in f:
                if line.endswith("\n"):
                    kinds[line[0]].append(line[2:-1])
    return kinds


def header(path, name):
    """One header field of a message in a maildir."""
    want = name.lower().encode() + b":"
    with open(path, "rb") as f:
        for line in f:
            if line in (b"\n", b"\r\n"):
                return None
            if line.lower().startswith(want):
                return line[len(want):].strip().decode(errors="replace")
    return None
