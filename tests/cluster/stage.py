"""stage.py - where scenarios play: the list of them, and the cluster that one leaves to the next."""
import shutil

import wires
from books import Books
from fleet import Cluster, Home
from scenarios import Skipped, note

SCENARIOS = []
DOMAINS = 12
LIVE = "live.test"  # for load that is to be told from the bags of names(); has a sink of its own


class Scenario:
    def __init__(self, function, quick):
        self.name, self.run, self.quick = function.__name__, function, quick


def scenario(quick=False):
    def add(function):
        SCENARIOS.append(Scenario(function, quick))
        return function
    return add


def names(count=DOMAINS):
    """The domains that satchel-gen --domains rotates over."""
    return ["d%04d.test" % i for i in range(count)]


class Stage:
    def __init__(self, build, full, keep):
        self.build, self.full, self.keep = build, full, keep
        self.current, self.spec, self.serial = None, None, 0

    def size(self, quick, full):
        return full if self.full else quick

    def cluster(self, **spec):
        """A cluster in order that serves names(): the one of the scenario before where it is of the same kind."""
        if not shutil.which("etcd"):
            raise Skipped("etcd is not installed: scripts/install-deps cluster")
        if self.current and spec == self.spec:
            self.current.heal()
            return self.current
        self.close()
        self.serial += 1
        house = Home(self.build, "fleet/%d" % self.serial)
        self.current, self.spec = Cluster(house, **spec), spec
        self.current.start()
        self.current.serve(names())
        self.current.serve([LIVE], port=self.current.live_port)
        return self.current

    def need_wires(self):
        if not wires.have():
            raise Skipped("network namespaces cannot be made here (needs root, iproute2 and iptables)")

    def books(self, cluster, name):
        self.serial += 1
        return Books(cluster, "%s%d" % (name, self.serial))

    def show(self):
        if self.current:
            self.current.tails()
            note("see %s" % self.current.house.dir)

    def close(self, keep=False):
        if self.current:
            self.current.house.close(keep or self.keep)
            if not (keep or self.keep):
                shutil.rmtree(self.current.house.dir, ignore_errors=True)
        self.current = self.spec = None
