"""books.py - who acknowledged what, and who got it: the ledgers of generators against those of sinks."""
import os
import time

from fleet import Failed, until
from programs import Gen, ledger
from scenarios import need, note


def lines_of(path):
    """How many lines a ledger has, without reading them as text."""
    if not os.path.exists(path):
        return 0
    with open(path, "rb") as f:
        return f.read().count(b"\n")


class Load:
    """A generator that sends to one node until it is told to stop."""

    def __init__(self, house, node, name, args):
        self.ledger = os.path.join(house.room("ledgers"), name)
        self.node = node
        self.gen = Gen(house, node.port, args, self.ledger, node.host)

    def start(self):
        self.gen.start()
        return self

    def acked(self):
        return ledger(self.ledger)["A"]

    def count(self):
        return len(self.acked())

    def wait_for(self, more, seconds=30):
        """Until so many more were acknowledged."""
        before = self.count()
        until("%d more acknowledged by %s" % (more, self.node.name), lambda: self.count() >= before + more, seconds,
              0.05)

    def stop(self):
        if self.gen.proc.poll() is None:
            self.gen.proc.terminate()
            self.gen.proc.communicate(timeout=30)

    def wait(self, seconds=300):
        return self.gen.wait(seconds)


class Books:
    """All generators and sinks of one scenario."""

    def __init__(self, cluster, name):
        self.cluster, self.house, self.name = cluster, cluster.house, name
        self.loads, self.sinks = [], []

    # ---- clients

    def load(self, node, *args):
        """Endless load; comes back to a node that was away."""
        return self.push(node, "-c", 4, "-d", 600, "-T", 600, "--retry", *args)

    def push(self, node, *args):
        name = "%s.%d" % (self.name, len(self.loads))
        self.loads.append(Load(self.house, node, name, args).start())
        return self.loads[-1]

    def fill(self, node, count, *args, seconds=300):
        """Bags so many messages; every one must be accepted."""
        r = self.push(node, "-c", 20, "-n", count, "-T", seconds, *args).wait(seconds + 20)
        need(r["acked"] == count, "%s accepted %d of %d: %s" % (node.name, r["acked"], count, r["replies"]))
        return r

    def stop_loads(self):
        for load in self.loads:
            load.stop()

    # ---- sinks

    def sink(self, *args, port=None):
        """Starts a sink at the primary's address."""
        self.sinks.append(self.cluster.sink([str(a) for a in args], port).start())
        return self.sinks[-1]

    # ---- the account

    def acked(self):
        return [t for load in self.loads for t in load.acked()]

    def got(self):
        return [t for s in self.sinks for t in ledger(s.ledger)["R"]]

    def got_count(self):
        return sum(lines_of(s.ledger) for s in self.sinks)

    def wait_for(self, count, seconds=30):
        until("%d messages at the primary (it has %d)" % (count, self.got_count()), lambda: self.got_count() >= count,
              seconds, 0.02)

    def missing(self):
        return sorted(set(self.acked()) - set(self.got()))

    def wait_all(self, seconds=60):
        """Until the sinks have all that was acknowledged."""
        end, grown, size = time.monotonic() + seconds, time.monotonic(), -1
        wanted = set(self.acked())
        while time.monotonic() < end:
            now = self.got_count()
            if now != size:
                size, grown = now, time.monotonic()
            if now >= len(wanted) and not wanted - set(self.got()):
                return
            if time.monotonic() > grown + 25:
                break  # what is missing now will not come
            time.sleep(0.1)
        gone = sorted(wanted - set(self.got()))
        raise Failed("%d of %d acknowledged messages did not arrive within %.0f s: %s; bagged %s; %s"
                     % (len(gone), len(wanted), seconds, ", ".join(gone[:3]), self.cluster.bagged(),
                        self.cluster.unsettled() or "the cluster is in order"))

    def wait_empty(self, seconds):
        """Every node has learned of every end.  The sinks must stand: a message without a 250 may still come."""
        try:
            until("all bags are empty", lambda: not any(self.cluster.bagged().values()), seconds, 0.1)
        except Failed as e:
            raise Failed("%s: %s; %s" % (e, self.cluster.bagged(), self.cluster.unsettled())) from None

    def close(self, twice_most, order=False, seconds=60):
        """Ends the load, waits for all of it, and for the bags to be empty on every node; then the account.
        twice_most: messages that may have come twice.  order: was FIFO promised?"""
        self.stop_loads()
        self.wait_all(seconds)
        self.wait_empty(30)
        sums = [s.stop() for s in self.sinks]
        acked, got = self.acked(), self.got()
        twice, strays = len(got) - len(set(got)), len(set(got) - set(acked))
        broken = sums[0]["fifo_violations"] if len(sums) == 1 else None  # a second sink knows nothing of the first
        need(not set(acked) - set(got), "%d acknowledged messages lost" % len(set(acked) - set(got)))
        need(twice <= twice_most, "%d of %d delivered twice, at most %d may be" % (twice, len(got), twice_most))
        need(not order or broken == 0, "order broken %s times" % broken)
        note("%d acknowledged, lost 0, twice %d, order broken %s, delivered without a 250 %d"
             % (len(acked), twice, "-" if broken is None else broken, strays))
        return sums
