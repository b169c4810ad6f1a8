"""vm.py - a virtual machine of the run's own, with PCI NICs and an IOMMU that QEMU emulates, and satcheld inside.

The guest's files are this machine's, at the same paths: it mounts `/` read-only over 9p, with a tmpfs on top, and the
scenario's directory for both to write.  /data is ext4 on a disk of its own.  guest.py, its process 1, does what it is told over
a virtio-serial port.  The NIC's other end is a tap in the run's network namespace, where Linux is the client.
"""
import base64
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess

from programs import Failed, until
from scenarios import Skipped
from wire import PortNode, addresses, sh

HERE = os.path.dirname(os.path.abspath(__file__))
NIC = "0000:00:05.0"
DRIVERS = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_blk", "ext4", "virtio_console"]

INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
for m in %(modules)s; do $b insmod /$m || echo "cannot load $m"; done
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /host
$b mount -t tmpfs tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work root /new
for d in proc sys; do $b mount -t ${d}fs $d /new/$d 2>/dev/null || $b mount -t $d $d /new/$d; done
$b mount -t devtmpfs dev /new/dev
$b mount -t tmpfs run /new/run
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none house %(dir)s
exec $b switch_root /new /usr/bin/python3 -B %(guest)s
"""


def kernel():
    """Version of the newest kernel that lies in /boot with its modules; None: there is none."""
    found = [os.path.basename(k)[len("vmlinuz-"):] for k in glob.glob("/boot/vmlinuz-*-amd64")]
    found = [v for v in found if os.path.isdir("/lib/modules/" + v)]
    return max(found, key=lambda v: [int(n) for n in re.findall(r"\d+", v)], default=None)


def virtualizes():
    """Does this machine's processor run guests?  /dev/kvm may be there without it, for guests of another kind."""
    with open("/proc/cpuinfo") as f:
        return bool(re.search(r"^flags.* (vmx|svm) ", f.read(), re.M)) and os.access("/dev/kvm", os.W_OK)


def need_a_machine():
    lacks = [what for what, there in (("qemu-system-x86_64", shutil.which("qemu-system-x86_64")),
                                      ("kernel of Debian's in /boot", kernel()),
                                      ("static busybox", shutil.which("busybox")),
                                      ("modprobe", shutil.which("modprobe", path="/usr/sbin:/sbin"))) if not there]
    if lacks:
        raise Skipped("no %s here: scripts/install-deps vm" % lacks[0])


# ---- what it boots

def modules(version):
    """Files of the modules that the root file system needs, each after those that it needs itself."""
    files = []
    for name in DRIVERS:
        for line in sh("/sbin/modprobe -S %s --show-depends %s" % (version, name)).splitlines():
            path = line.split()[1] if line.startswith("insmod") else None
            if path and path not in files:
                files.append(path)
    return files


def cpio_entry(name, mode, data=b""):
    """A file of an initramfs: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst."""
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def initramfs(path, version, directory):
    files = modules(version)
    init = INIT % {"modules": " ".join(os.path.basename(m) for m in files), "dir": "/new" + directory,
                   "guest": os.path.join(HERE, "guest.py")}
    with open(path, "wb") as f:
        for name in ("bin", "dev", "host", "new", "proc", "rw"):
            f.write(cpio_entry(name, 0o40755))
        f.write(cpio_entry("init", 0o100755, init.encode()))
        for source in [shutil.which("busybox")] + files:
            with open(source, "rb") as s:
                name = os.path.basename(source)
                f.write(cpio_entry("bin/" + name if name == "busybox" else name, 0o100755, s.read()))
        f.write(cpio_entry("TRAILER!!!", 0))


# ---- a process in it

class Process:
    """As subprocess.Popen, as far as Node needs it."""

    def __init__(self, vm, pid):
        self.vm, self.pid, self.returncode = vm, pid, None

    def poll(self):
        if self.returncode is None:
            self.returncode = self.vm.ask("poll", self.pid)
        return self.returncode

    def wait(self, seconds=20):
        try:
            until("process %d ends" % self.pid, lambda: self.poll() is not None, seconds)
        except Failed:
            raise subprocess.TimeoutExpired("satcheld", seconds)
        return self.returncode

    def send_signal(self, number):
        self.vm.ask("signal", self.pid, int(number))

    def kill(self):
        self.send_signal(signal.SIGKILL)


# ---- the machine

class Machine:
    """model: of the NIC, as -device names it, with its properties; queues: of the tap behind it.  All checksums are made
    before the wire and verified behind it; only virtio's are left to the host, or it would offer none."""

    def __init__(self, house, model="e1000e", queues=1, iommu=True):
        need_a_machine()
        self.house, self.model, self.iommu, self.sock = house, model, iommu, None
        self.path = os.path.join(house.short, "guest")
        self.console = os.path.join(house.dir, "console")
        self.sums_left = model.startswith("virtio")
        sh("ip tuntap add dev c0 mode tap %s %s" %
           ("vnet_hdr" if self.sums_left else "", "multi_queue" if queues > 1 else ""))
        house.ends.append(lambda: sh("ip link del c0", check=False))
        addresses("c0")
        self.boot(self.command(queues))

    def command(self, queues):
        version, image = kernel(), os.path.join(self.house.dir, "initramfs")
        initramfs(image, version, self.house.dir)
        disk = os.path.join(self.house.dir, "disk")
        with open(disk, "wb") as f:
            f.truncate(4 << 30)
        accel = "kvm" if virtualizes() else "tcg"
        many = ",queues=%d" % queues if queues > 1 else ""
        share = "local,id=%s,path=%s,security_model=none,multidevs=remap"
        cmd = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "2G",
               "-smp", "2", "-cpu", "host,arch-capabilities=off" if accel == "kvm" else "max",
               "-accel", accel, "-machine", "q35" + (",kernel-irqchip=split" if accel == "kvm" else ""),
               "-kernel", "/boot/vmlinuz-" + version, "-initrd", image,
               "-append", "console=ttyS0 quiet panic=-1 hugepages=256 " +
               ("intel_iommu=on iommu=pt" if self.iommu else "intel_iommu=off"),
               "-chardev", "socket,id=guest,path=%s,server=on,wait=off" % self.path, "-device", "virtio-serial-pci",
               "-device", "virtserialport,chardev=guest,name=guest", "-serial", "file:" + self.console,
               "-fsdev", share % ("root", "/") + ",readonly=on", "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
               "-fsdev", share % ("house", self.house.dir), "-device", "virtio-9p-pci,fsdev=house,mount_tag=house",
               "-drive", "if=virtio,format=raw,file=" + disk,
               "-netdev", "tap,id=wire,ifname=c0,script=no,downscript=no,vhost=off,vnet_hdr=%s" %
               ("on" if self.sums_left else "off") + many,
               "-device", "%s,netdev=wire,mac=02:00:00:00:00:25,addr=05.0" % self.model]
        if self.iommu:
            cmd += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
        return cmd

    def boot(self, cmd):
        with open(os.path.join(self.house.dir, "qemu.log"), "wb") as log:
            self.proc = self.house.start(cmd, stdout=log, stderr=log)
        self.sock = socket.socket(socket.AF_UNIX)
        self.house.ends.append(self.sock.close)
        until("QEMU listens", lambda: self.up() and self.sock.connect_ex(self.path) == 0, 20)
        self.lines = self.sock.makefile("rb")
        self.sock.settimeout(120)
        try:
            ready = self.lines.readline()
        except OSError:
            ready = b""
        if ready != b'"ready"\n':
            self.up()
            raise Failed("the guest did not boot: %s" % self.console_tail())

    def up(self):
        if self.proc.poll() is not None:
            with open(os.path.join(self.house.dir, "qemu.log"), errors="replace") as f:
                raise Failed("QEMU ended with %d: %s %s" % (self.proc.returncode, f.read()[-300:], self.console_tail()))
        return True

    def console_tail(self):
        with open(self.console, errors="replace") as f:
            return f.read()[-600:]

    def ask(self, *what):
        """One of guest.py's functions, with its arguments."""
        self.up()
        self.sock.sendall(json.dumps(what).encode() + b"\n")
        answer = json.loads(self.lines.readline() or b'{"failed": "the guest is gone"}')
        if "failed" in answer:
            raise Failed("%s in the guest: %s" % (what[0], answer["failed"]))
        return answer["value"]

    def run(self, cmd, seconds=60):
        """A command in the guest; returns it with what it said, as subprocess.run does."""
        code, out, err = self.ask("run", cmd, seconds)
        return subprocess.CompletedProcess(cmd, code, base64.b64decode(out), base64.b64decode(err))

    def sh(self, command, check=True, seconds=60):
        p = self.run(["sh", "-c", command], seconds)
        said = (p.stdout + p.stderr).decode(errors="replace")
        if check and p.returncode:
            raise Failed("%s (in the guest): %s" % (command, said.strip()))
        return said

    def spawn(self, cmd, log):
        return Process(self, self.ask("spawn", cmd, log))


class GuestNode(PortNode):
    """satcheld in the machine, on its NIC."""

    def __init__(self, house, vm, domains, settings=()):
        self.vm = vm
        tree = {"data_dir": "/data/spool", "dataplane.eal": ["-a " + NIC], "dataplane.device": NIC}
        tree.update(dict(settings))
        super().__init__(house, "node", domains, "", None, tree)

    def spawn(self, before=()):
        self.proc = self.vm.spawn(list(before) + [self.house.bin("satcheld"), "-c", self.config], self.log)
        return self.proc

    def request(self, method, path, body, seconds):
        return self.vm.ask("http", self.socket, method, path, body, seconds)

    def run(self, cmd):
        return self.vm.run(cmd)
