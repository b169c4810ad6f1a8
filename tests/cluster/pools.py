"""pools.py - a customer with nodes of its own: served by them, taken over by the shared pool while they are gone, and
given back in order."""
import time

from books import need, note
from fleet import LEASE_S, until
from stage import scenario

ACME = ["acme%d.test" % i for i in range(4)]


def shards_of(c, pool):
    return [s for s in c.live()[0].shards() if s["name"].startswith(pool + ".")]


def owners(c, pool):
    return {s["owner"] for s in shards_of(c, pool)}


@scenario()
def dedicated_pool_lost_and_healed(stage):
    own = {"cluster.pool": "acme", "cluster.copies": 1, "cluster.acks": 1, "cluster.shards": 4}
    c = stage.cluster(names="abcx", special={"x": own})
    need(owners(c, "acme") == {"x"}, "the pool's shards are owned by %s" % owners(c, "acme"))
    c.serve(ACME, pool="acme")
    books = stage.books(c, "acme")
    sink = c.sink(["--delay", "5"])
    loads = [books.load(c["a"], "--domain", name, "--rate", 50, "-c", 1) for name in ACME]
    loads[0].wait_for(100)
    c["x"].kill()  # with what it has; nobody else has a copy
    begin = time.monotonic()
    until("the shared pool takes over", lambda: owners(c, "acme") and "x" not in owners(c, "acme") and
          None not in owners(c, "acme"), LEASE_S + 15, 0.1)
    took = time.monotonic() - begin
    for load in loads:
        load.wait_for(100, 60)
    c["x"].start()
    c.settle(120)
    need(owners(c, "acme") == {"x"}, "not healed: %s own its shards" % owners(c, "acme"))
    for load in loads:
        load.wait_for(100, 60)
    books.sinks.append(sink.start())
    books.close(twice_most=0, order=True, seconds=120)
    note("taken over %.1f s after the kill" % took)
