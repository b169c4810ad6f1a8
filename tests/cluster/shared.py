"""shared.py - nodes whose logs lie on one file system (cluster.shared_dir): one copy of each message, and whoever is alive
reads the logs of the dead.

On a plain directory here; with GlusterFS in gluster.py.  What may come twice after a kill is what crash.py says.
"""
import os
import shutil

from crash import DELAY_MS, adopted, twice_bound
from fleet import LEASE_S, until
from gluster import Gluster
from scenarios import need, note
from stage import DOMAINS, LIVE, names, scenario


def shared_cluster(stage, members="abc"):
    where = os.path.join("/tmp", "satchel-shared-%d" % os.getpid())
    os.makedirs(where, exist_ok=True)
    c = stage.cluster(names=members, copies=1, acks=1, settings={"cluster.shared_dir": where})
    if not hasattr(c, "shared"):
        c.shared = where
        c.house.ends.insert(0, lambda: shutil.rmtree(where, ignore_errors=True))
    return c


def gluster_cluster(stage, members="abc"):
    """Each node has a mount of its own of one volume, whose two bricks mirror each other."""
    volume = Gluster.current or Gluster(members).start()
    try:
        c = stage.cluster(names=members, copies=1, acks=1,
                          special={n: {"cluster.shared_dir": volume.shared(n)} for n in members})
    except BaseException:
        volume.stop()
        raise
    if not hasattr(c, "volume"):
        c.volume = volume
        c.house.ends.insert(0, volume.stop)
    return c


def settled_count(c, books):
    """How many the sinks have, once no node has anything left to send."""
    until("all bags are empty (%s)" % c.bagged(), lambda: not any(c.bagged().values()), 30, 0.1)
    return books.got_count()


def taken(n):
    return n.counter("satchel_shared_taken_total")


def owner_killed(stage, c, count):
    """Under load, with a deep bag: its peers read its log and deliver; when it is back it sends none of that again."""
    books, live = stage.books(c, "shared"), stage.books(c, "slive")
    books.fill(c["a"], count, "--domains", DOMAINS)
    victim = c.full_owner(names())
    mine = [d for d in names() if c.owner(d) is victim]
    others = [n for n in c.live() if n is not victim]
    load = live.load(others[0], "--rate", 100, "--domain", LIVE)
    live.sink(port=c.live_port)
    load.wait_for(100)
    books.sink("--delay", DELAY_MS)
    books.wait_for(300)
    victim.kill()
    before = books.got_count()
    took = adopted(c, victim)
    books.wait_for(before + 100)
    load.wait_for(100)
    live.stop_loads()
    books.wait_all(stage.size(60, 300))
    need(sum(taken(n) for n in others) > 0, "nothing was taken from the log of %s" % victim.name)
    got = settled_count(c, books)
    victim.start()
    c.settle(90)
    need(books.got_count() == got, "%d messages were sent again when it was back" % (books.got_count() - got))
    books.close(twice_most=twice_bound(len(mine)), order=True)  # its bags are empty when those of live are, too
    live.close(twice_most=twice_bound(1))
    note("%s owned %d of %d domains; adopted %.1f s after the kill, the lease being %d s; %d messages taken from its log"
         % (victim.name, len(mine), DOMAINS, took, LEASE_S, sum(taken(n) for n in others)))


@scenario(quick=True)
def shared_log_of_a_killed_owner_is_adopted(stage):
    owner_killed(stage, shared_cluster(stage), stage.size(5000, 100000))


@scenario()
def shared_log_of_a_stopped_owner_is_adopted(stage):
    """SIGSTOP past the lease: the zombie goes on, finds its lease gone and sends nothing; what it has is delivered."""
    c = shared_cluster(stage)
    books = stage.books(c, "szombie")
    count = stage.size(1500, 20000)
    books.fill(c["a"], count, "--domains", DOMAINS)
    zombie = c.full_owner(names())
    mine = [d for d in names() if c.owner(d) is zombie]
    books.sink("--delay", DELAY_MS)
    books.wait_for(count // 10)
    zombie.freeze()
    books.wait_all(stage.size(60, 300))
    got = settled_count(c, books)
    zombie.thaw()
    until("the one that was stopped has a lease again", zombie.leased, 20)
    c.settle(90)
    need(books.got_count() == got, "it went on and sent %d messages that others had sent" % (books.got_count() - got))
    books.close(twice_most=twice_bound(len(mine)))


@scenario()
def shared_logs_of_two_killed_in_turn(stage):
    """The adopter dies, too, before the first is back: the third reads both logs."""
    c = shared_cluster(stage)
    books = stage.books(c, "sturn")
    count = stage.size(3000, 50000)
    books.fill(c["a"], count, "--domains", DOMAINS)
    first = c.full_owner(names())
    first.kill()
    adopted(c, first)
    books.sink("--delay", DELAY_MS)
    books.wait_for(count // 10)
    second = c.full_owner(names(), but=(first.name,))
    second.kill()
    adopted(c, second)
    books.wait_all(stage.size(60, 300))
    got = settled_count(c, books)
    first.start()
    second.start()
    c.settle(90)
    need(books.got_count() == got, "%d messages were sent again when they were back" % (books.got_count() - got))
    books.close(twice_most=twice_bound(DOMAINS, 2))


@scenario()
def shared_directory_that_is_not_mounted(stage):
    """Another directory under the same path is not taken for the one that holds this node's mail."""
    c = shared_cluster(stage)
    n = c["b"]
    need(n.stop() == 0, "exit status is not 0")
    os.rename(c.shared, c.shared + ".away")
    os.makedirs(c.shared)
    n.spawn()
    until("it gives up", lambda: not n.alive(), 15)
    need(n.proc.returncode != 0, "it started on another mount")
    need("another mount" in n.log_text(), "the log does not say why: " + n.tail())
    os.remove(os.path.join(c.shared, "CLUSTER"))
    os.rmdir(c.shared)
    os.rename(c.shared + ".away", c.shared)
    n.start()
    c.settle(90)


@scenario(quick=True)
def gluster_log_of_a_killed_owner_is_adopted(stage):
    """On a real distributed file system; its peers read the log through mounts of their own."""
    owner_killed(stage, gluster_cluster(stage), stage.size(2000, 100000))


@scenario()
def gluster_brick_lost_and_back(stage):
    """One of two bricks is killed under load: accepting goes on; when it is back, it is healed, and the other is killed."""
    c = gluster_cluster(stage)
    books = stage.books(c, "brick")
    books.fill(c["a"], stage.size(2000, 20000), "--domains", DOMAINS)
    load = books.load(c["b"], "--rate", 50, "--domains", DOMAINS)
    load.wait_for(50)
    for brick in (0, 1):
        c.volume.kill_brick(brick)
        load.wait_for(300, 60)
        c.volume.start_bricks()
        load.wait_for(100, 60)
        until("each node writes to both bricks", c.volume.joined, 60, 0.2)
        until("both bricks hold the same again", c.volume.healed, 120, 1)
    books.sink()
    books.close(twice_most=0, seconds=120)
    c.settle()
