"""cut.py - wires that are cut, and etcd that is away: accepting goes on where enough copies can be made; nobody relays
without a lease; nothing is lost, and nothing comes twice but what was on its way."""
import os
import shutil
import time

import wires
from crash import DELAY_MS, adopted, twice_bound
from fleet import LEASE_S, until
from scenarios import Skipped, need, note
from stage import DOMAINS, names, scenario


def nothing_comes(books, seconds=1.5):
    time.sleep(0.5)  # a dot sent within the lease may still be on its way to a slow sink
    before = books.got_count()
    time.sleep(seconds)  # nothing can be polled for: it must not happen
    return books.got_count() == before


def etcd_away(stage, c, members, wait_s):
    """etcd loses `members` under load; the books at its end."""
    books = stage.books(c, "etcd")
    books.fill(c["a"], stage.size(4000, 50000), "--domains", DOMAINS)
    load = books.load(c["b"], "--rate", 100, "--domains", DOMAINS)
    slow = books.sink("--delay", DELAY_MS)
    books.wait_for(200)
    c.etcd.kill(members)
    begin = time.monotonic()
    load.wait_for(50)
    until("all leases are over", lambda: not any(n.leased() for n in c.live()), LEASE_S + 3, 0.05)
    ended = time.monotonic() - begin
    need(nothing_comes(books), "something was relayed without a lease")
    need(slow.proc.poll() is None, "the sink ended")
    while time.monotonic() < begin + wait_s:
        load.wait_for(50)
    replies = load.count()
    c.etcd.start(members)
    got = books.got_count()
    began = time.monotonic()
    books.wait_for(got + 1, 60)
    note("leases were over after %.1f s; %d accepted while etcd was away; relaying again %.1f s after it was back"
         % (ended, replies, time.monotonic() - began))
    slow.stop()
    books.sink()
    return books


@scenario(quick=True)
def etcd_stopped_and_back(stage):
    c = stage.cluster()
    books = etcd_away(stage, c, [0], stage.size(7, 60))
    books.close(twice_most=0, seconds=120)
    c.settle()


@scenario(quick=True)
def etcd_loses_its_data_and_is_restored(stage):
    """An etcd that is empty is no reason to refuse mail, nor to found another cluster."""
    c = stage.cluster()
    books = stage.books(c, "empty")
    load = books.load(c["a"], "--rate", 100, "--domains", DOMAINS)
    load.wait_for(100)
    before = c["a"].json("cluster", "status")["cluster"]
    c.etcd.kill()
    kept = c.etcd.dir + "-kept"
    shutil.move(os.path.join(c.etcd.dir, "m0"), kept)
    c.etcd.start()
    until("the nodes see that it is empty", lambda: all("is empty" in n.log_text() for n in c.live()), 30, 0.1)
    told = c["a"].do("cluster", "status")
    need("not known: what etcd has is refused" in told and "is refused: it is empty" in told, "status: " + told)
    load.wait_for(300)
    c["b"].kill()
    c["b"].spawn()
    until("a node that starts sees it, too", lambda: c["b"].local().get("refused"), 30, 0.1)
    books.load(c["b"], "--rate", 50, "--domains", DOMAINS).wait_for(50, 60)
    books.sink()
    need(nothing_comes(books), "something was relayed without a lease")
    c.etcd.kill()
    shutil.rmtree(os.path.join(c.etcd.dir, "m0"))
    shutil.move(kept, os.path.join(c.etcd.dir, "m0"))
    c.etcd.start()
    books.wait_for(1, 60)
    for n in c.live():
        until("%s takes part again" % n.name, n.leased, 60)
    need(c["a"].json("cluster", "status")["cluster"] == before, "it is another cluster now")
    books.close(twice_most=0, seconds=120)
    c.settle()


@scenario(quick=True)
def etcd_restored_from_a_snapshot(stage):
    """The snapshot knows neither the last domain nor who owns a shard since; the nodes know."""
    if not shutil.which("etcdctl"):
        raise Skipped("etcdctl is not installed: scripts/install-deps cluster")
    c = stage.cluster()
    books = stage.books(c, "snapshot")
    load = books.load(c["a"], "--rate", 100, "--domains", DOMAINS)
    load.wait_for(100)
    snapshot = os.path.join(c.house.room("snapshot"), "etcd.db")
    c.etcd.snapshot(snapshot)
    late, moved = "late%d.test" % stage.serial, names()[0]
    c.serve([late])
    before = c.owner(moved)
    to = next(n for n in c.live() if n is not before)
    c["b"].do("shard", "move", moved, to.name)
    until("%s moves to %s" % (moved, to.name), lambda: to.shard(moved).get("state") == "owned", 20)
    books.load(c["c"], "--rate", 50, "--domain", late).wait_for(50)
    books.sink("--delay", DELAY_MS)
    c.etcd.kill()
    until("all leases are over", lambda: not any(n.leased() for n in c.live()), LEASE_S + 3, 0.05)
    c.etcd.restore(snapshot)
    c.etcd.start()
    for n in c.live():
        until("%s takes part again" % n.name, n.leased, 60)
    for n in c.live():
        until("%s finds %s in coordination" % (n.name, late), lambda: "there already" in n.refused(
            "domain", "add", late, "--primary", "%s:%d" % (c.sink_host, c.sink_port)), 15, 0.1)
    need(all(late in n.serves() for n in c.live()), "%s is not served any more" % late)
    last = "last%d.test" % stage.serial
    c.serve([last], via=c["b"])  # at a revision that all have seen before
    books.load(c["a"], "--rate", 50, "--domain", last).wait_for(50)
    load.wait_for(100)
    books.close(twice_most=0, seconds=120)
    c.settle()


@scenario(quick=True)
def nodes_started_while_etcd_is_away_take_mail(stage):
    """From the map and the domains on their disks.  Not one of them has spoken to etcd since it started."""
    c = stage.cluster()
    books = stage.books(c, "cached")
    books.load(c["a"], "--rate", 50, "--domains", DOMAINS).wait_for(100)  # the map is saved once a second at most
    books.stop_loads()
    c.etcd.kill()
    for n in c.nodes.values():
        n.kill()
    for n in c.nodes.values():
        n.spawn()
    loads = [books.load(n, "--rate", 50, "--domains", DOMAINS) for n in c.nodes.values()]
    for load in loads:
        load.wait_for(stage.size(100, 1500), 60)
    books.sink()
    need(not any(n.leased() for n in c.live()), "a node has a lease without etcd")
    need(books.got_count() == 0, "something was relayed without a lease")
    c.etcd.start()
    books.wait_for(1, 60)
    books.close(twice_most=0, seconds=120)
    c.settle()


@scenario()
def etcd_away_for_many_leases_while_nodes_restart(stage):
    """Each node is stopped or killed, and starts from the map on its disk, twice over; a lease lasts 2 s here."""
    lease_s = 2
    c = stage.cluster(settings={"cluster.lease": "%ds" % lease_s})
    books = stage.books(c, "long")
    books.fill(c["a"], 4000, "--domains", DOMAINS)
    loads = [books.load(n, "--rate", 50, "--domains", DOMAINS) for n in c.live()]
    slow = books.sink("--delay", DELAY_MS)
    books.wait_for(200)
    c.etcd.kill()
    begin = time.monotonic()
    until("all leases are over", lambda: not any(n.leased() for n in c.live()), lease_s + 3, 0.05)
    need(nothing_comes(books), "something was relayed without a lease")
    got = books.got_count()
    for turn in range(6):
        node = c.nodes["abc"[turn % 3]]
        began = time.monotonic()
        if turn % 2:
            node.kill()
        else:
            need(node.stop() == 0, "%s ended with %s: %s" % (node.name, node.proc.returncode, node.tail()))
        took = time.monotonic() - began
        need(took < 8, "%s stopped after %.1f s, although it has nothing that it could hand over" % (node.name, took))
        node.start()
        for load in loads:
            load.wait_for(50 * lease_s, 60)
        need(not any(n.leased() for n in c.live()), "a node has a lease without etcd")
        need(books.got_count() == got, "something was relayed without a lease")
    away = time.monotonic() - begin
    need(away > 5 * lease_s, "etcd was away for %.1f s only" % away)
    need(slow.proc.poll() is None, "the sink ended")
    c.etcd.start()
    books.wait_for(got + 1, 60)
    slow.stop()
    books.sink()
    books.close(twice_most=0, seconds=120)
    c.settle()
    note("etcd was away for %.0f s, %.0f times a lease" % (away, away / lease_s))


@scenario()
def two_of_three_etcd_lost_and_back(stage):
    c = stage.cluster(etcd_members=3)
    books = stage.books(c, "quorum")
    books.sink()
    load = books.load(c["a"], "--rate", 100, "--domains", DOMAINS)
    load.wait_for(100)
    c.etcd.kill([0])
    load.wait_for(500)
    need(all(n.leased() for n in c.live()), "a lease was lost with one of three etcd members")
    books.close(twice_most=0)
    c.etcd.start([0])
    books = etcd_away(stage, c, [0, 1], 20)
    books.close(twice_most=0, seconds=120)
    c.settle()


@scenario(quick=True)
def etcd_with_tls_users_and_members_that_go(stage):
    """Each member of etcd is lost in turn, first the one that a node talks to: nobody loses a lease, changes go on."""
    c = stage.cluster(etcd_members=3, etcd_secure=True)
    books = stage.books(c, "tls")
    books.sink()
    load = books.load(c["a"], "--rate", 200, "--domains", DOMAINS)
    load.wait_for(100)
    used = c.etcd.used_by(c["a"])
    for turn in range(3):
        gone = (used + turn) % 3
        c.etcd.kill([gone])
        until("all nodes talk to another member", lambda: all(
            n.local()["coordination"]["reachable"] and n.local()["coordination"]["endpoint"] != c.etcd.urls()[gone]
            for n in c.live()), 30, 0.05)
        until("a change is made", lambda: c["b"].ctl("domain", "set", names()[turn], "--keep", "%dd" % (turn + 2))[0] == 0,
              30, 0.1)
        c.etcd.start([gone])
    need(all(n.local()["lease"]["lost"] == 0 for n in c.live()), "a lease was lost with one of three etcd members away")
    wrong = os.path.join(c.etcd.dir, "wrong")
    with open(wrong, "w") as f:
        f.write("guess\n")
    c.make_certs(["x"])
    x = c.stranger("x", etcd_password_file=wrong)
    x.spawn()
    until("the one with the wrong password says so", lambda: "password" in x.log_text(), 20, 0.1)
    x.kill()
    note(next(line for line in x.log_text().splitlines() if "password" in line)[:230])
    books.close(twice_most=0)
    c.settle()


@scenario(quick=True)
def etcd_member_that_hangs(stage):
    """It keeps its connections and answers nothing.  Whoever talks to it finds another one before its lease is over."""
    c = stage.cluster(etcd_members=3, etcd_secure=True)
    books = stage.books(c, "hang")
    books.sink()
    load = books.load(c["a"], "--rate", 200, "--domains", DOMAINS)
    lost = {n.name: n.local()["lease"]["lost"] for n in c.live()}
    used = c.etcd.used_by(c["a"])
    for turn in range(stage.size(1, 3)):
        gone = (used + turn) % 3
        c.etcd.freeze(gone)
        until("all nodes talk to another member", lambda: all(
            n.local()["coordination"]["reachable"] and c.etcd.used_by(n) != gone for n in c.live()), 30, 0.05)
        load.wait_for(200 * LEASE_S)
        c.etcd.thaw(gone)
        until("the member is one of them again", lambda: c.etcd.healthy(gone), 30, 0.05)
    for n in c.live():
        need(n.local()["lease"]["lost"] == lost[n.name], "%s lost its lease while one of three members hung" % n.name)
    books.close(twice_most=0)


@scenario()
def front_end_cut_from_the_replicas(stage):
    stage.need_wires()
    c = stage.cluster()
    books = stage.books(c, "cutfront")
    front, others = c["a"], [c["b"], c["c"]]
    alone = books.load(front, "--rate", 100, "--domains", DOMAINS, "-c", 8)
    other = books.load(others[0], "--rate", 100, "--domains", DOMAINS)
    books.sink()
    alone.wait_for(100)
    for n in others:
        front.wire.cut(n.host)
    time.sleep(2)
    before = alone.count()
    other.wait_for(300)
    need(alone.count() <= before + 8, "it accepts alone although acks are 2")
    front.wire.mend()
    alone.wait_for(100, 60)
    books.close(twice_most=twice_bound(DOMAINS))
    c.settle()


@scenario()
def one_way_cut_between_two_nodes(stage):
    stage.need_wires()
    c = stage.cluster()
    books = stage.books(c, "oneway")
    books.sink()
    loads = [books.load(n, "--rate", 100, "--domains", DOMAINS) for n in c.live()]
    loads[0].wait_for(100)
    c["a"].wire.cut(c["b"].host, directions="out")
    for load in loads:
        load.wait_for(500, 60)
    c["a"].wire.mend()
    books.close(twice_most=twice_bound(DOMAINS))
    c.settle()


@scenario()
def relay_cut_from_etcd(stage):
    stage.need_wires()
    c = stage.cluster()
    books = stage.books(c, "cutetcd")
    books.fill(c["a"], 4000, "--domains", DOMAINS)
    victim = c.full_owner(names())
    load = books.load(next(n for n in c.live() if n is not victim), "--rate", 100, "--domains", DOMAINS)
    slow = books.sink("--delay", DELAY_MS)
    books.wait_for(200)
    victim.wire.cut(wires.HUB, ports=c.etcd.ports)
    until("its lease is over", lambda: not victim.leased(), LEASE_S + 3, 0.05)
    sent = victim.counter("satchel_relay_items_delivered_total")
    took = adopted(c, victim)
    got = books.got_count()
    books.wait_for(got + 50)
    need(victim.counter("satchel_relay_items_delivered_total") == sent, "it delivered without a lease")
    load.wait_for(50)
    victim.wire.mend()
    until("it has a lease again", victim.leased, 30)
    note("adopted %.1f s after its lease" % took)
    slow.stop()
    books.sink()
    books.close(twice_most=0, seconds=120)
    c.settle()
