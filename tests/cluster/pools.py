"""pools.py - pools beside the shared one.  A customer with nodes of its own: served by them, taken over by the shared
pool while they are gone, and given back in order.  Front-ends that store nothing: nodes of a pool that no domain is in."""
import time

from crash import DELAY_MS, adopted, twice_bound
from fleet import LEASE_S, until
from scenarios import need, note
from stage import DOMAINS, names, scenario

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


@scenario()
def domain_moves_to_a_pool_with_its_bag(stage):
    """And back again, under load for it."""
    own = {"cluster.pool": "acme", "cluster.copies": 1, "cluster.acks": 1, "cluster.shards": 4}
    c = stage.cluster(names="abcx", special={"x": own})
    domain = names()[0]
    books = stage.books(c, "moves")
    books.fill(c["a"], 5000, "--domain", domain)
    load = books.load(c["b"], "--domain", domain, "--rate", 100, "-c", 1)
    for pool, holders in (("acme", {"x"}), ("shared", {"a", "b", "c"})):
        load.wait_for(100)
        c["a"].do("domain", "set", domain, "--pool", pool)
        until("%s is a matter of pool %s" % (domain, pool), lambda: all(
            n.shard(domain)["name"].startswith(pool + ".") for n in c.live()), 20)
        load.wait_for(100)
        until("its bag lies there alone (%s)" % c.bagged(), lambda: all(
            (c.bagged()[n.name] >= 5000) if n.name in holders else c.bagged()[n.name] == 0 for n in c.live()), 60, 0.2)
    books.sink()
    books.close(twice_most=0, seconds=120)
    c.settle()


@scenario(quick=True)
def front_end_in_no_copyset(stage):
    """It takes mail under load for domains whose copies lie elsewhere, while one of those who hold them is killed.  Two
    copies, both acknowledged: so the order is promised even then."""
    own = {"cluster.pool": "front", "cluster.copies": 1, "cluster.acks": 1, "cluster.shards": 1}
    c = stage.cluster(names="abcx", copies=2, acks=2, special={"x": own})
    books = stage.books(c, "nocopy")
    front = c["x"]
    need("x" not in {name for d in names() for name in front.shard(d)["members"]}, "x stores the domains' mail")
    written = front.counter("satchel_spool_records_total")
    accepted = front.counter("satchel_smtp_messages_accepted_total")
    books.sink("--delay", DELAY_MS)
    load = books.load(front, "--domains", DOMAINS, "--rate", stage.size(300, 1000), "-c", 8)
    load.wait_for(stage.size(300, 5000))
    victim = c.full_owner(names())
    mine = [d for d in names() if c.owner(d) is victim]
    victim.kill()
    took = adopted(c, victim)
    load.wait_for(stage.size(300, 5000), 60)
    held = front.local()["storage"]["messages"]
    victim.start()
    c.settle()
    load.wait_for(stage.size(300, 5000), 60)
    books.close(twice_most=twice_bound(len(mine)), order=True)
    storage = front.local()["storage"]
    took_in = front.counter("satchel_smtp_messages_accepted_total") - accepted
    need(took_in >= load.count(), "x says that it took %d of %d messages" % (took_in, load.count()))
    need(held == 0 and storage["messages"] == 0 and storage["ends_owed"] == 0, "x holds %d, then %s" % (held, storage))
    need(front.counter("satchel_spool_records_total") == written, "x wrote records of mail to its own disk")
    note("x forwarded %d messages and wrote none; the shards of %s were adopted %.1f s after the kill"
         % (took_in, victim.name, took))
