#!/usr/bin/env python3
"""run.py - the promise with real programs: what was answered with 250 is never lost.

usage: tests/ledger/run.py [--build DIR] [--keep] [--list] [NAME ...]

Clients write down each 250 (bench/lib/lines.h), the primary what it got; at the end of a scenario everything of the
first list is in the second.  Scenarios are the functions below that start with `scenario_`; NAME picks some.
tests/scenarios.py says what is printed.
"""
import glob
import os
import re
import subprocess
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import scenarios  # noqa: E402
from scenarios import Skipped, need, note  # noqa: E402
from programs import Failed, Gen, Node, Postfix, Sink, free_port, header, ledger, until  # noqa: E402


def lost(acked, received):
    return sorted(set(acked) - set(received))


def need_none_lost(acked, received, what):
    gone = lost(acked, received)
    need(not gone, "%d of %d acknowledged messages lost (%s): %s" % (len(gone), len(set(acked)), what,
                                                                    ", ".join(gone[:5])))


def domains(count, port):
    return [("d%04d.test" % i, port) for i in range(count)]


def drain(node, path, sink, seconds=90):
    """Until the sink has all that was acknowledged and the bag is empty.  Returns early when the bag has been empty for
    5 s: what is missing then will not come.  (The count of the bag follows the log by a moment, so one look at it
    proves nothing.)"""
    empty_since = [None]

    def done():
        empty = node.bagged() == 0
        empty_since[0] = (empty_since[0] or time.monotonic()) if empty else None
        if empty and not lost(ledger(path)["A"], ledger(sink.ledger)["R"]):
            return True
        return empty and time.monotonic() > empty_since[0] + 5
    until("the bag is empty (%s)" % node.name, done, seconds, 0.1)


# ---- clients that are not ours

class Client(threading.Thread):
    """Runs a mail client again and again until told to stop; acked: what it saw a 250 for."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.acked, self.runs, self.ended = node, [], 0, threading.Event()

    def run(self):
        while not self.ended.is_set():
            self.runs += 1
            self.once(self.runs)
            self.ended.wait(0.05)

    def finish(self):
        self.ended.set()
        self.join(60)
        need(not self.is_alive(), "%s does not end" % type(self).__name__)


class Swaks(Client):
    def once(self, n):
        token = "swaks-%d" % n
        p = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(self.node.port), "--to", "u@swaks.test",
                            "--from", "s@client.test", "--helo", "client.test", "--timeout", "10", "--silent", "3",
                            "--add-header", "X-Ledger: " + token],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        if p.returncode == 0:
            self.acked.append(token)


class SmtpSource(Client):
    """Postfix's own generator, one session at a time: its -v shows each reply, so that a 250 to the final dot is told
    from all others.  (Its -c counts messages when they are sent.)  Recipients are numbered; sender and recipient
    together name a message."""

    def __init__(self, node, name):
        super().__init__(node)
        self.name_ = name

    def once(self, n):
        sender = "%s.%d@source.test" % (self.name_, n)
        p = subprocess.run([smtp_source(), "-v", "-d", "-N", "-s", "1", "-l", "4096", "-m", "100", "-M", "client.test",
                            "-f", sender, "-t", "u@source.test", "127.0.0.1:%d" % self.node.port],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
        self.acked += ["<%s> %s" % (sender, rcpt.decode()) for rcpt in
                       re.findall(rb"RCPT TO:<([^>]*)>\n.*<<< 250.*\n.*DATA\n.*<<< 354.*\n[^<\n]*: \.\n.*<<< 250", p.stderr)]


def smtp_source():
    for path in os.environ.get("PATH", "").split(":") + ["/usr/sbin"]:
        if os.path.exists(os.path.join(path, "smtp-source")):
            return os.path.join(path, "smtp-source")
    return None


# ---- kill -9 under load, Postfix as the primary

def what_postfix_got(primary):
    """The tokens of all delivered files; smtp-source's messages are named by sender and recipient."""
    return [header(path, "X-Ledger") or "%s %s" % (header(path, "Return-Path"), header(path, "Delivered-To"))
            for path in primary.delivered()]


def kill_again_and_again(node, path, primary, kills=8):
    """Each kill comes when at least 250 more messages were acknowledged since the start before it."""
    for k in range(kills):
        if k == 3:
            primary.start()
        before = len(ledger(path)["A"])
        until("mail is accepted after kill %d" % k, lambda: len(ledger(path)["A"]) > before + 250, 30, 0.05)
        node.kill()
        node.start()


def scenario_kill_9_under_load(house):
    why = Postfix.why_not()
    if why:
        raise Skipped(why)
    primary = Postfix(house, "primary", "primary")
    served = domains(5, primary.port) + [("swaks.test", primary.port), ("source.test", primary.port)]
    node = Node(house, "node", served)
    node.start()
    path = os.path.join(node.dir, "ledger")
    gen = Gen(house, node.port, ["-c", 8, "-d", 60, "-T", 90, "--rate", 300, "--domains", 5, "--retry"], path).start()
    clients = [Swaks(node)] + [SmtpSource(node, "run%d" % i) for i in range(3)]
    for c in clients:
        c.start()
    kill_again_and_again(node, path, primary)
    for c in clients:
        c.finish()
        need(c.acked, "%s never saw a 250" % type(c).__name__)
    gen.proc.terminate()
    gen.proc.communicate(timeout=30)
    ours, others = ledger(path)["A"], [len(c.acked) for c in clients]
    acked = ours + [token for c in clients for token in c.acked]
    until("the bag is empty", lambda: node.bagged() == 0, 90, 0.1)
    got = until("the primary has it all", lambda: settled(primary, acked), 90, 0.5)
    need_none_lost(acked, got, "kill -9")
    note("%d acknowledged (generator %d, swaks %d, smtp-source %d), 8 kills, lost 0, duplicates %d"
         % (len(acked), len(ours), others[0], sum(others[1:]), len(got) - len(set(got))))
    node.stop()
    primary.stop()


def settled(primary, acked):
    """What has arrived, once nothing is missing or the maildir has not grown for 10 s; else None."""
    now, files = time.monotonic(), len(primary.delivered())
    if files != primary.files:
        primary.files, primary.grown = files, now
    got = what_postfix_got(primary)
    return got if not lost(acked, got) or now > primary.grown + 10 else None


# ---- restart with a deep queue

def bag(house, node, count, args=()):
    path = os.path.join(node.dir, "ledger")
    r = Gen(house, node.port, ["-c", 20, "-n", count, "--deep", "-T", 120] + list(args), path).run(150)
    return r, path


def scenario_restart_with_a_deep_queue(house):
    sink = Sink(house)
    node = Node(house, "node", domains(5, sink.port))
    node.start()
    filled, path = bag(house, node, 50000, ["-s", 2048, "--domains", 5])
    need(filled["acked"] == 50000, "only %d of 50000 were accepted: %s" % (filled["acked"], filled["replies"]))
    node.kill()
    seconds = node.start()
    note("50000 bagged at %.0f/s; after kill -9 it greets again within %.3f s" % (filled["messages_per_s"], seconds))
    need(node.bagged() == 50000, "%d bagged after the restart, not 50000" % node.bagged())
    sink.start()
    drain(node, path, sink)
    got = sink.stop()
    need_none_lost(ledger(path)["A"], ledger(sink.ledger)["R"], "restart")
    need(got["duplicates"] == 0, "%d duplicates" % got["duplicates"])
    need(got["fifo_violations"] == 0, "order broken %d times" % got["fifo_violations"])
    note("drained at %.0f/s, lost 0, duplicates 0, order kept" % got["messages_per_s"])
    need(node.stop() == 0, "exit status is not 0")


# ---- SIGTERM under load

def scenario_sigterm_under_load(house):
    sink = Sink(house)
    node = Node(house, "node", domains(3, sink.port))
    node.start()
    path = os.path.join(node.dir, "ledger")
    gen = Gen(house, node.port, ["-c", 20, "-n", 5000000, "-T", 60, "--domains", 3], path).start()
    until("load is on", lambda: len(ledger(path)["A"]) > 2000, 30)
    need(node.stop() == 0, "exit status is not 0: " + node.tail())
    result = gen.wait(60)
    need(result["replies"].get("421"), "no client saw a 421: %s" % result["replies"])
    node.start()
    sink.start()
    drain(node, path, sink)
    got = sink.stop()
    need_none_lost(ledger(path)["A"], ledger(sink.ledger)["R"], "SIGTERM")
    note("%d acknowledged, %d saw 421, %d without an answer, lost 0, duplicates %d"
         % (result["acked"], result["replies"]["421"], result["unanswered"], got["duplicates"]))
    node.stop()


# ---- full disk

def fill_and_drain(house, settings, data_dir=None):
    sink = Sink(house)
    node = Node(house, "node", domains(2, sink.port), settings, data_dir)
    node.start()
    full, path = bag(house, node, 3000, ["-c", 4, "-s", 65536, "--domains", 2, "-T", 60])
    need(full["replies"].get("452"), "no 452: %s" % full["replies"])
    need(not full["timed_out"], "a session got no answer on the full disk within 60 s")
    need(full["acked"] > 100, "only %d were accepted before the disk was full" % full["acked"])
    sink.start()
    drain(node, path, sink)
    until("mail is accepted again", lambda: Gen(house, node.port, ["-n", 1, "-c", 1, "-T", 10, "--domains", 2],
                                                path).run(20)["acked"], 30, 0.2)
    drain(node, path, sink)
    got = sink.stop()
    need_none_lost(ledger(path)["A"], ledger(sink.ledger)["R"], "full disk")
    note("%d accepted, %d refused with 452, all drained, accepting again, lost 0"
         % (full["acked"], full["replies"]["452"]))
    need(node.stop() == 0, "exit status is not 0: " + node.tail())
    return got


def scenario_full_by_spool_max(house):
    fill_and_drain(house, {"spool.segment": "4MiB", "spool.max": "64MiB", "spool.spare_segments": 2})


def scenario_full_disk(house):
    where = house.room("tmpfs")
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", where],
                                           stderr=subprocess.DEVNULL).returncode:
        raise Skipped("a small tmpfs cannot be mounted here (needs root)")
    house.ends.insert(0, lambda: subprocess.run(["umount", "-l", where]))
    fill_and_drain(house, {"spool.segment": "4MiB", "spool.spare_segments": 2}, os.path.join(where, "data"))


# ---- what must be refused, what must be survived

def scenario_two_daemons_on_one_directory(house):
    first = Node(house, "first", domains(1, free_port()))
    first.start()
    second = Node(house, "second", domains(1, free_port()), data_dir=first.data)
    second.spawn()
    until("the second daemon gives up", lambda: second.proc.poll() is not None, 15)
    need(second.proc.returncode != 0, "the second daemon ended with 0")
    need(first.data in second.log_text(), "the refusal does not name the directory: " + second.tail())
    r, _ = bag(house, first, 10, ["-c", 1])
    need(r["acked"] == 10, "the first daemon no longer accepts: %s" % r["replies"])
    first.stop()


def flip_byte_of(node, token):
    """Flips one bit in the body of a bagged message, well behind its headers."""
    for path in glob.glob(os.path.join(node.data, "**", "*"), recursive=True):
        if not os.path.isfile(path) or "/index/" in path:
            continue
        with open(path, "r+b") as f:
            data = f.read()
            at = data.find(("X-Ledger: " + token).encode())
            if at >= 0:
                f.seek(at + 5000)
                f.write(bytes([data[at + 5000] ^ 1]))
                return os.path.basename(path)
    raise Failed("%s is in no segment" % token)


def scenario_damaged_segment(house):
    sink = Sink(house)
    node = Node(house, "node", domains(2, sink.port))
    node.start()
    _, path = bag(house, node, 200, ["-c", 1, "-s", 20000, "--domains", 2])
    acked = ledger(path)["A"]
    need(len(acked) == 200, "%d of 200 accepted" % len(acked))
    need(node.stop() == 0, "exit status is not 0")
    victim = acked[100]
    segment = flip_byte_of(node, victim)
    before = len(node.log_text())
    node.start()
    sink.start()
    until("all but one are delivered", lambda: len(ledger(sink.ledger)["R"]) >= 199, 30)
    need_none_lost([t for t in acked if t != victim], ledger(sink.ledger)["R"], "damage")
    need(victim not in ledger(sink.ledger)["R"], "the damaged message was delivered as if it were whole")
    said = [line for line in node.log_text()[before:].splitlines() if re.search("damage|checksum|corrupt", line, re.I)]
    need(said, "the log does not name the damage in %s" % segment)
    note("log: " + said[0][:160])
    sink.stop()
    node.stop()


if __name__ == "__main__":
    sys.exit(scenarios.main("ledger", [sys.modules[__name__]]))
