"""crash.py - processes that are killed or stopped: nothing may be lost; a bounded few may come twice.

What may come twice after a kill: what the dead owner delivered and had no time to tell (ends are pushed within 20 ms), and
what was on its way to the primary at that moment: one message a domain in strict order.  The sinks answer slowly here,
so that this stays a small number: PUSH_S at the pace of one domain, for each domain.
"""
import time

from fleet import LEASE_S, until
from scenarios import need, note
from stage import DOMAINS, LIVE, names, scenario

DELAY_MS = 10
PUSH_S = 0.2  # ten times what the push takes: this machine may be busy


def twice_bound(domains, kills=1):
    return kills * domains * (1 + int(PUSH_S * 1000 / DELAY_MS))


def adopted(c, dead, seconds=30):
    """Waits until others own all that the dead node owned; seconds it took."""
    begin = time.monotonic()
    until("the shards of %s are adopted" % dead.name,
          lambda: all(s["owner"] and s["owner"] != dead.name for s in c.live()[0].shards()) and
          all(n.local()["ownership"]["merging"] == 0 for n in c.live()), seconds, 0.05)
    return time.monotonic() - begin


@scenario(quick=True)
def owner_killed_with_a_deep_bag_under_load(stage):
    """The bag comes in order although two nodes deliver it.  The live load has a domain and a sink of its own."""
    c = stage.cluster()
    count = stage.size(5000, 100000)
    books, live = stage.books(c, "owner"), stage.books(c, "live")
    books.fill(c["a"], count, "--domains", DOMAINS)
    victim = c.full_owner(names())
    mine = [d for d in names() if c.owner(d) is victim]
    others = [n for n in c.live() if n is not victim]
    load = live.load(others[0], "--rate", 100, "--domain", LIVE)
    live.sink(port=c.live_port)
    load.wait_for(100)
    books.sink("--delay", DELAY_MS)
    books.wait_for(500)
    victim.kill()
    took = adopted(c, victim)
    load.wait_for(100)
    books.wait_all(stage.size(60, 300))
    victim.start()
    live.stop_loads()
    books.close(twice_most=twice_bound(len(mine)), order=True)  # its bags are empty when those of live are, too
    live.close(twice_most=twice_bound(1))
    need(took < LEASE_S + 4, "adoption took %.1f s" % took)
    note("%s owned %d of %d domains; adopted %.1f s after the kill, the lease being %d s"
         % (victim.name, len(mine), DOMAINS, took, LEASE_S))


@scenario(quick=True)
def front_end_killed_under_load(stage):
    c = stage.cluster()
    books = stage.books(c, "front")
    front = c["a"]
    books.sink("--delay", DELAY_MS)
    load = books.load(front, "--domains", DOMAINS, "--rate", 400, "-c", 8)
    kills = stage.size(1, 5)
    for _ in range(kills):
        load.wait_for(stage.size(300, 2000))
        front.kill()
        time.sleep(stage.size(0.0, 6.0))  # in the long run also longer than the lease
        front.start()
    load.wait_for(100)
    books.close(twice_most=twice_bound(DOMAINS, kills))
    c.settle()


@scenario(quick=True)
def owner_stopped_past_its_lease_sends_nothing_when_it_goes_on(stage):
    c = stage.cluster()
    books = stage.books(c, "zombie")
    count = stage.size(1500, 20000)
    books.fill(c["a"], count, "--domains", DOMAINS)
    zombie = c.full_owner(names())
    mine = [d for d in names() if c.owner(d) is zombie]
    slow = books.sink("--delay", DELAY_MS)
    books.wait_for(count // 10)
    zombie.freeze()
    books.wait_all(stage.size(40, 300))
    got = books.got_count()
    need(zombie.stopped and got >= count, "the others did not deliver all")
    zombie.thaw()
    until("the one that was stopped has a lease again", zombie.leased, 20)
    c.settle()
    need(books.got_count() == got, "it went on and sent %d messages that others had sent" % (books.got_count() - got))
    need(slow.proc.poll() is None, "the sink ended")
    books.close(twice_most=twice_bound(len(mine)))


@scenario()
def two_of_three_killed_and_back(stage):
    c = stage.cluster()
    books = stage.books(c, "two")
    books.fill(c["a"], 20000, "--domains", DOMAINS)
    load = books.load(c["c"], "--rate", 100, "--domains", DOMAINS)
    load.wait_for(100)
    c["a"].kill()
    c["b"].kill()
    time.sleep(LEASE_S)
    sent = load.count()
    time.sleep(3)
    need(load.count() <= sent + 20, "c alone accepts although acks are 2")
    c["a"].spawn()
    c["b"].spawn()
    load.wait_for(100, 60)
    books.sink()
    books.close(twice_most=0, seconds=120)
    c.settle()


@scenario()
def killed_again_and_again(stage):
    c = stage.cluster()
    books = stage.books(c, "again")
    books.sink("--delay", 2)
    loads = [books.load(n, "--rate", 100, "--domains", DOMAINS) for n in c.live()]
    kills = 12
    for i in range(kills):
        victim = c.nodes["abc"[i % 3]]
        victim.kill()
        if i % 2:
            adopted(c, victim)
        victim.start()
        c.settle()
        for load in loads:
            load.wait_for(50, 60)
    books.close(twice_most=kills * DOMAINS * (1 + int(PUSH_S * 1000 / 2)))


@scenario()
def all_killed_at_once(stage):
    c = stage.cluster()
    books = stage.books(c, "all")
    books.fill(c["a"], 20000, "--domains", DOMAINS)
    load = books.load(c["b"], "--rate", 300, "--domains", DOMAINS)
    load.wait_for(500)
    for n in c.nodes.values():
        n.kill()
    for n in c.nodes.values():
        n.spawn()
    load.wait_for(100, 60)
    books.sink()
    books.close(twice_most=0, seconds=120)
    c.settle()


@scenario()
def node_lost_with_its_disk_and_replaced(stage):
    c = stage.cluster()
    books = stage.books(c, "wiped")
    books.fill(c["a"], 100000, "--domains", DOMAINS)
    victim = c["b"]
    load = books.load(c["c"], "--rate", 200, "--domains", DOMAINS)
    load.wait_for(500)
    victim.kill()
    victim.wipe()
    adopted(c, victim)
    victim.spawn()
    until("it is refused: its name belongs to the storage that is lost",
          lambda: "replace" in (victim.local().get("refused") or ""), 20)
    c["a"].do("node", "replace", victim.name, "--yes")
    begin = time.monotonic()
    until("it is taken in", victim.leased, 30)
    c.settle(180)
    took = time.monotonic() - begin
    books.stop_loads()
    until("all have the same (%s)" % c.bagged(), lambda: len(set(c.bagged().values())) == 1, 20, 0.2)
    note("%d messages copied to the new disk in %.1f s" % (c.bagged()["b"], took))
    books.sink()
    books.close(twice_most=0, order=False, seconds=180)
