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


def threads_us(pid):
    """CPU of a process's threads, by their names."""
    took = {}
    for tid in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/comm" % (pid, tid)) as f:
                name = f.read().strip()
            with open("/proc/%d/task/%s/schedstat" % (pid, tid)) as f:
                took[name] = took.get(name, 0) + int(f.read().split()[0]) / 1e3
        except OSError:
            pass  # ended meanwhile
    return took


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
    """Two cores, one the server's, one the generator's.  What the kernel does for a server in softirq is nobody's: on
    the generator's core, where its packets are received for it, by the kernel's ticks; on its own core it runs within
    the server's time, or in ksoftirqd."""
    SOFTIRQ = 6

    def __init__(self, front, gen):
        self.front, self.gen = front, gen
        self.helper = None
        for name in os.listdir("/proc"):
            if name.isdigit() and comm(name) == "ksoftirqd/%d" % front:
                self.helper = int(name)

    def softirq_us(self):
        with open("/proc/stat") as f:
            fields = next(line for line in f if line.startswith("cpu%d " % self.gen)).split()[1:]
        ticks = int(fields[self.SOFTIRQ]) if self.gen != self.front else 0
        return ticks * TICK_US + (sum(threads_us(self.helper).values()) if self.helper else 0)


def comm(pid):
    try:
        with open("/proc/%s/comm" % pid) as f:
            return f.read().strip()
    except OSError:
        return ""


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
