"""planned.py - what operators do on a day without faults: nothing may be lost, nothing may come twice, order stays."""
import smtplib
import time

from fleet import until
from scenarios import need, note
from stage import names, scenario


def takes(node, address):
    """Does this front-end take mail for the address?"""
    try:
        with smtplib.SMTP(node.host, node.port, "client.test", 5) as s:
            s.ehlo()
            s.mail("a@client.test")
            return s.rcpt(address)[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


@scenario(quick=True)
def domain_added_on_one_node_is_served_by_all(stage):
    c = stage.cluster()
    slowest = 0
    for i, node in enumerate(c.live()):
        name = "added%d.test" % i
        node.do("domain", "add", name, "--primary", "%s:%d" % (c.sink_host, c.sink_port))
        begin = time.monotonic()
        for other in c.live():
            until("%s serves what was added on %s" % (other.name, node.name), lambda: takes(other, "u@" + name), 1.0)
        slowest = max(slowest, time.monotonic() - begin)
        node.do("domain", "remove", name)
        for other in c.live():
            until("%s refuses what was removed on %s" % (other.name, node.name),
                  lambda: not takes(other, "u@" + name), 1.0)
    note("added on each node in turn, served by all within %.2f s" % slowest)




@scenario(quick=True)
def every_command_through_any_node(stage):
    c = stage.cluster()
    shard = c["a"].shard(names()[0])["name"]
    for node in c.live():
        listed = node.json("node", "list")["nodes"]
        need({n["name"] for n in listed} == set(c.nodes) and all(n["live"] for n in listed),
             "node list on %s: %s" % (node.name, listed))
        need(len(node.json("shard", "list")) == 12, "shard list on %s" % node.name)
        need(node.json("shard", "show", names()[0])["name"] == shard, "shard show on %s" % node.name)
        need(set(node.json("cluster", "status")["nodes"]) == set(c.nodes), "cluster status on %s" % node.name)
        need(node.json("cluster", "settings")["pools"][0]["copies"] == 3, "cluster settings on %s" % node.name)
        for other in c.nodes:
            need(node.json("node", "show", other)["load"], "node show %s on %s" % (other, node.name))
        for words in (("node", "list"), ("shard", "list"), ("cluster", "status"), ("cluster", "settings"), ("status",),
                      ("node", "show", "b"), ("shard", "show", shard), ("domain", "list"), ("queue", "list")):
            need(node.do(*words).strip(), "%s on %s says nothing" % (" ".join(words), node.name))
    changes_through_any_node(c, shard)


def changes_through_any_node(c, shard):
    """Each node changes something of another one, which all of them then see."""
    nodes = c.live()
    for i, node in enumerate(nodes):
        other = nodes[(i + 1) % len(nodes)]
        node.do("node", "cordon", other.name)
        until("all see that %s is cordoned" % other.name,
              lambda: all(n.json("node", "show", other.name)["state"] == "cordoned" for n in nodes), 10, 0.05)
        node.do("node", "undrain", other.name)
        node.do("cluster", "settings", "--repair-delay", str(61 + i))
        until("all see the delay that was set on %s" % node.name,
              lambda: all(n.json("cluster", "settings")["repair_delay_s"] == 61 + i for n in nodes), 10, 0.05)
    for node in nodes:
        need("no such node" in node.refused("node", "show", "zz"), "node show zz")
        need("no node" in node.refused("node", "drain", "zz"), "node drain zz")
        need("no node" in node.refused("shard", "move", shard, "zz"), "shard move to zz")
        need("alive" in node.refused("node", "replace", "b", "--yes"), "replacing a living node is not refused")
    c.settle()


@scenario(quick=True)
def shards_move_while_their_bags_drain(stage):
    c = stage.cluster()
    books = stage.books(c, "move")
    count, moves = stage.size((3000, 4), (50000, 24))
    books.fill(c["a"], count, "--domains", 12)
    books.sink("--delay", 3)
    longest = 0.0
    for i in range(moves):
        domain = names()[i % 12]
        before = c.owner(domain)
        to = next(n for n in c.live() if n is not before)
        c["c"].do("shard", "move", domain, to.name)
        until("%s moves from %s to %s" % (domain, before.name, to.name),
              lambda: c.owner(domain) is to and to.shard(domain).get("state") == "owned", 20)
        longest = max(longest, before.local()["ownership"]["last_hand_over_s"])
    need(books.got_count() < count, "the bags were empty before the moves ended")
    books.close(twice_most=0, order=True)
    note("%d moves; the longest hand-over took %.0f ms" % (moves, longest * 1e3))


@scenario(quick=True)
def drain_under_load_then_the_node_is_lost_and_replaced(stage):
    c = stage.cluster()
    books = stage.books(c, "drain")
    books.fill(c["a"], stage.size(2000, 50000), "--domains", 12, "-s", 2048)
    load = books.load(c["a"], "--rate", 200, "--domains", 12)
    load.wait_for(200)
    victim = c["b"]
    begin = time.monotonic()
    said = c["c"].do("node", "drain", victim.name)
    took = time.monotonic() - begin
    need("drained" in said, "the drain says: " + said)
    held = victim.local()["storage"]
    need(held["messages"] == 0 and held["ends_owed"] == 0, "it is drained, and holds %s" % held)
    victim.kill()
    victim.wipe()
    load.wait_for(200)
    c["a"].do("node", "remove", victim.name)
    books.sink()
    victim.spawn()
    load.wait_for(200)
    books.close(twice_most=0, order=True)
    took_full = c.settle()
    note("drained in %.1f s; replaced by an empty one, all copies full again %.1f s after the account" % (took, took_full))


@scenario(quick=True)
def rolling_restart_under_load(stage):
    """Order is not asked for: a message that comes while a node is away lies on two of three, and the one that
    delivers may get its copy a moment after a later message."""
    c = stage.cluster()
    books = stage.books(c, "rolling")
    books.sink()
    loads = [books.load(n, "--rate", 100, "--domains", 12, "-c", 2) for n in c.live()]
    for node in list(c.nodes.values()):
        for load in loads:
            load.wait_for(30)
        need(node.stop() == 0, "%s ended with %s: %s" % (node.name, node.proc.returncode, node.tail()))
        node.start()
        c.settle()
    books.close(twice_most=0)


@scenario()
def drain_interrupted_by_a_crash(stage):
    c = stage.cluster()
    books = stage.books(c, "drain")
    books.fill(c["a"], 30000, "--domains", 12, "-s", 4096)
    load = books.load(c["c"], "--rate", 100, "--domains", 12)
    victim = c["b"]
    c["a"].do("node", "drain", victim.name, "--no-wait")
    until("some shards are handed over", lambda: victim.local().get("ownership", {}).get("handed", 0) > 0, 30)
    victim.kill()
    load.wait_for(300)
    victim.spawn()
    until("the drain goes on and ends", lambda: c["a"].json("node", "show", "b")["state"] == "drained", 90, 0.2)
    need(victim.local()["storage"]["messages"] == 0, "it is drained, and holds mail")
    victim.kill()
    victim.wipe()
    c["a"].do("node", "remove", victim.name)
    books.sink()
    victim.spawn()
    books.close(twice_most=0, seconds=180)
    c.settle()
