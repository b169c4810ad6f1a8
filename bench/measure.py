"""measure.py - what a server costs: CPU, bytes written and flushes between two moments; and medians with their spread.

A server is a tree of processes.  The kernel adds a child that was waited for to its parent (CPU in cutime and cstime,
bytes in /proc/PID/io), so the sum over the living tree misses nothing that Postfix's master has reaped.
"""
import os
import statistics

TICK_US = 1000000 // os.sysconf("SC_CLK_TCK")


def parents():
    """{pid: parent}"""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as f:
                    found[int(name)] = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass  # ended meanwhile
    return found


def tree(root):
    above = parents()
    inside = {root}
    grew = True
    while grew:
        more = {p for p, parent in above.items() if parent in inside} - inside
        inside |= more
        grew = bool(more)
    return inside


def cpu_us(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return sum(int(x) for x in fields[11:15]) * TICK_US
    except OSError:
        return 0


def written_bytes(pid):
    try:
        with open("/proc/%d/io" % pid) as f:
            for line in f:
                if line.startswith("write_bytes:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def resident_bytes(root):
    """Proportional share of memory, so that pages that Postfix's processes share count once."""
    total = 0
    for pid in tree(root):
        try:
            with open("/proc/%d/smaps_rollup" % pid) as f:
                total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
        except OSError:
            pass
    return total


def device_of(path):
    st = os.stat(path).st_dev
    return "/sys/dev/block/%d:%d/stat" % (os.major(st), os.minor(st))


class Meter:
    """Begin, let the server work, end: what it took.  Device figures count everything on the disk meanwhile."""

    def __init__(self, root, path):
        self.root, self.device = root, device_of(path)
        self.first = self.read()

    def read(self):
        pids = tree(self.root)
        writes = flushes = 0
        if os.path.exists(self.device):
            with open(self.device) as f:
                fields = [int(x) for x in f.read().split()]
            writes, flushes = fields[6] * 512, fields[15] if len(fields) > 15 else 0
        return {"cpu_us": sum(map(cpu_us, pids)), "written": sum(map(written_bytes, pids)), "device_written": writes,
                "flushes": flushes}

    def end(self):
        last = self.read()
        return {k: max(0, last[k] - self.first[k]) for k in last}


class Cores:
    """CPU of two cores of the machine, one the server's, one the generator's, by the kernel's own ticks: what the server
    cost is all that its core did, and what the other core did in softirq, where the server's packets are received for
    it.  The rest of that core is the generator's own."""
    USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ = range(7)

    def __init__(self, front, gen):
        self.front, self.gen = front, gen

    def read(self):
        cores = {}
        with open("/proc/stat") as f:
            for line in f:
                name, *fields = line.split()
                if name.startswith("cpu") and name != "cpu":
                    cores[int(name[3:])] = [int(x) for x in fields[:7]]
        f, g = cores[self.front], cores[self.gen]
        busy = sum(f) - f[self.IDLE] - f[self.IOWAIT]
        return (busy + (g[self.SOFTIRQ] if self.gen != self.front else 0)) * TICK_US

    def since(self, before):
        return self.read() - before


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in r) + " |" for r in rows])


class Series:
    """Values of one figure over the rounds."""

    def __init__(self):
        self.values = []

    def add(self, v):
        self.values.append(v)

    @property
    def median(self):
        return statistics.median(self.values) if self.values else None

    def text(self, digits=0):
        if not self.values:
            return "-"
        f = "%%.%df" % digits
        if len(self.values) == 1:
            return f % self.values[0]
        return (f + " (" + f + ".." + f + ")") % (self.median, min(self.values), max(self.values))
