"""gluster.py - a GlusterFS volume of our own: glusterd, two bricks that mirror each other, and a FUSE mount for each node.

It needs the namespaces of wires.py: glusterd refuses loopback addresses, and its directories (/var/lib/glusterd,
/run/gluster, /var/log/glusterfs) are covered by private ones there.  All of it ends with stop(), or with the namespace.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile

import wires
from programs import Failed, until
from scenarios import Skipped

VOLUME = "mail"
# What mail needs of a volume: a brick that is gone holds nobody for 42 s, a client sees what another has synced, and
# the bricks write through to their disks.
OPTIONS = {"network.ping-timeout": "5", "performance.write-behind": "off", "performance.open-behind": "off",
           "performance.quick-read": "off", "performance.io-cache": "off", "performance.read-ahead": "off",
           "performance.stat-prefetch": "off", "cluster.ensure-durability": "on", "cluster.heal-timeout": "5",
           "cluster.favorite-child-policy": "none"}
VOLFILE = """volume management
    type mgmt/glusterd
    option working-directory /var/lib/glusterd
    option transport-type socket
    option transport.socket.bind-address %s
    option glusterd-sockfile %s
    option max-port 60999
end-volume
"""


def why_not():
    if not wires.have():
        return "network namespaces cannot be made here (needs root, iproute2 and iptables)"
    for tool in ("glusterd", "gluster", "glusterfs"):
        if not shutil.which(tool):
            return "%s is not installed: scripts/install-deps test" % tool
    if not os.path.exists("/dev/fuse"):
        return "this machine has no FUSE (/dev/fuse)"
    return None


class Gluster:
    current = None

    def __init__(self, names):
        self.names, self.procs, self.mounts = names, [], {}

    def path(self, *words):
        return os.path.join(self.dir, *words)

    def start(self):
        why = why_not()
        if why:
            raise Skipped(why)
        self.dir = tempfile.mkdtemp(prefix="satchel-gluster.", dir="/var/tmp")
        Gluster.current = self
        try:
            self.cover()
            self.serve()
            for name in self.names:
                self.mount(name)
        except (Failed, OSError, subprocess.SubprocessError) as e:
            log = self.log_end()
            self.stop()
            raise Failed("GlusterFS: %s\n%s" % (e, log)) from None
        return self

    def cover(self):
        for name, covered in (("lib", "/var/lib/glusterd"), ("run", "/var/run/gluster"), ("log", "/var/log/glusterfs")):
            os.makedirs(self.path(name))
            os.makedirs(covered, exist_ok=True)
            wires.run("mount", "--bind", self.path(name), covered)

    def ctl(self, *words, seconds=30):
        p = subprocess.run(["gluster", "--mode=script", "--glusterd-sock=" + self.path("run/cli.socket")] + list(words),
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, text=True)
        if p.returncode:
            raise Failed("gluster %s: %s" % (" ".join(words), (p.stdout + p.stderr).strip()))
        return p.stdout

    def spawn(self, *cmd):
        with open(self.path("log/out"), "ab") as out:
            p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.procs.append(p)
        return p

    def answers(self):
        try:
            self.ctl("volume", "info", seconds=5)
            return True
        except (Failed, subprocess.TimeoutExpired):
            return False

    def serve(self):
        with open(self.path("glusterd.vol"), "w") as f:
            f.write(VOLFILE % (wires.HUB, self.path("run/cli.socket")))
        self.spawn("glusterd", "-N", "-f", self.path("glusterd.vol"), "-l", self.path("log/glusterd.log"),
                   "-p", self.path("glusterd.pid"))
        until("glusterd answers", self.answers, 20, 0.1)
        bricks = ["%s:%s" % (wires.HUB, self.path("brick%d" % i)) for i in (0, 1)]
        self.ctl("volume", "create", VOLUME, "replica", "2", *bricks, "force")
        for key, value in OPTIONS.items():
            self.ctl("volume", "set", VOLUME, key, value)
        self.ctl("volume", "start", VOLUME)

    def mount(self, name):
        where = self.path("mount-" + name)
        os.makedirs(where)
        p = self.spawn("glusterfs", "-N", "-s", wires.HUB, "--volfile-id=" + VOLUME,
                       "--log-file=" + self.path("log/mount-%s.log" % name), where)

        def mounted():
            if p.poll() is not None:
                raise Failed("the mount of %s ended with %d" % (name, p.returncode))
            with open("/proc/mounts") as f:
                return " %s fuse.glusterfs " % where in f.read()
        until("the volume is mounted for " + name, mounted, 20, 0.05)
        self.mounts[name] = where
        shared = os.path.join(where, "shared")
        os.makedirs(shared, exist_ok=True)
        return shared

    def shared(self, name):
        return os.path.join(self.mounts[name], "shared")

    # ---- its faults

    def brick_pid(self, i):
        found = glob.glob(self.path("run/vols", VOLUME, "*brick%d.pid" % i))
        if not found:
            raise Failed("brick %d has no pid file" % i)
        with open(found[0]) as f:
            return int(f.read())

    def kill_brick(self, i):
        os.kill(self.brick_pid(i), signal.SIGKILL)

    def start_bricks(self):
        self.ctl("volume", "start", VOLUME, "force")

    def healed(self):
        """Do both bricks hold the same again?  `gluster volume heal info` asks a program that looks for glusterd at its
        usual socket, whatever --glusterd-sock says; asked itself it can be told."""
        programs = glob.glob("/usr/lib/*/glusterfs/glfsheal") + glob.glob("/usr/libexec/glusterfs/glfsheal")
        if not programs:
            raise Failed("glfsheal is missing: it comes with glusterfs-server")
        p = subprocess.run([programs[0], VOLUME, "info-summary", "glusterd-sock", self.path("run/cli.socket")],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=60, text=True)
        counts = [line.split(":")[1].strip() for line in p.stdout.splitlines()
                  if line.startswith("Total Number of entries")]
        return p.returncode == 0 and len(counts) == 2 and all(c == "0" for c in counts)

    def joined(self):
        """Does each mount write to both bricks?  One that has not found a brick again writes to the other alone."""
        for where in self.mounts.values():
            for i in (0, 1):
                with open(os.path.join(where, ".meta/graphs/active/%s-client-%d/private" % (VOLUME, i))) as f:
                    if not re.search(r"^connected = 1$", f.read(), re.M):
                        return False
        return True

    # ---- its end

    def log_end(self):
        text = ""
        for name in sorted(glob.glob(self.path("log/*.log"))):
            with open(name, errors="replace") as f:
                lines = [line for line in f if "] E [" in line or "] C [" in line]
            text += "".join("  | %s: %s" % (os.path.basename(name), line[:240]) for line in lines[-5:])
        return text

    def pids(self):
        for name in glob.glob(self.path("run/**/*.pid"), recursive=True):
            with open(name) as f:
                word = f.read().strip()
            if word:
                yield int(word)

    def stop(self):
        for where in self.mounts.values():
            subprocess.run(["umount", "-l", where], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        for pid in self.pids():  # bricks and the self-heal daemon, which glusterd set free
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for p in self.procs:
            if p.poll() is None:
                p.kill()
            p.wait()
        self.procs, self.mounts = [], {}
        for covered in ("/var/lib/glusterd", "/var/run/gluster", "/var/log/glusterfs"):
            subprocess.run(["umount", "-l", covered], stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        shutil.rmtree(self.dir, ignore_errors=True)
        Gluster.current = None
