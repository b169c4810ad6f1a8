"""refused.py - what makes no sense or means harm: refused with words that say why, while mail goes on.

A live load runs beside each of them, and ends with nothing lost."""
import concurrent.futures
import http.server
import os
import socket
import threading

from fleet import until
from scenarios import need, note
from stage import DOMAINS, scenario


def said(nodes, *words, again=lambda: None):
    """Waits until one of the nodes says all these words in one line of its log.  (Which of two nodes dials the other
    is for their storages' IDs to say, and so is who of them finds the fault.)  again: repeats the offence, for a node that
    hushes what it has said too often lately."""
    def found():
        again()
        return next((line for n in nodes for line in n.log_text().splitlines() if all(w in line for w in words)), None)
    line = until("%s say %s" % (", ".join(n.node for n in nodes), " ".join(words)), found, 70, 0.1)
    note(line[line.find("event="):][:230])


def beside_load(stage, c, name):
    books = stage.books(c, name)
    books.sink()
    load = books.load(c["a"], "--rate", 200, "--domains", DOMAINS)
    load.wait_for(50)
    return books, load


def end(c, books, load):
    load.wait_for(50)
    books.close(twice_most=0)


def give_up(c, stranger, name):
    """Takes a node that may register out again."""
    def known():
        return name in {n["name"] for n in c["a"].json("node", "list")["nodes"]}
    until("%s is registered" % name, known, 20)
    stranger.kill()
    until("%s can be given up" % name, lambda: c["a"].ctl("node", "replace", name, "--yes")[0] == 0, 20)
    until("%s is forgotten" % name, lambda: not known(), 20)


@scenario(quick=True)
def certificate_of_another_authority(stage):
    c = stage.cluster()
    books, load = beside_load(stage, c, "ca")
    where = c.house.room("other")
    c.make_certs(["x"], where)
    x = c.stranger("x", ca=where + "/ca.pem", cert=where + "/x.pem", key=where + "/x.key")
    x.start()
    said([x], "link.", "certificates of one CA")
    link = [n for n in c["a"].json("node", "list")["nodes"] if n["name"] == "x"]
    need(not link or not link[0]["link"]["up"], "a link stands: %s" % link)
    give_up(c, x, "x")
    end(c, books, load)


@scenario(quick=True)
def certificate_with_another_name(stage):
    c = stage.cluster()
    books, load = beside_load(stage, c, "name")
    c.make_certs(["y"])
    x = c.stranger("x", cert=c.certs + "/y.pem", key=c.certs + "/y.key")
    x.start()
    said([x] + c.live(), "link.", "is for 'y'")
    give_up(c, x, "x")
    end(c, books, load)


@scenario(quick=True)
def two_nodes_with_one_name(stage):
    c = stage.cluster()
    books, load = beside_load(stage, c, "twins")
    twin = c.stranger("b")
    twin.start()
    said([twin], "member.refused", "belongs to storage")
    need(not twin.leased(), "the second b has a lease")
    need(c["b"].leased(), "the first b lost its lease")
    twin.kill()
    end(c, books, load)


@scenario(quick=True)
def new_disk_under_an_old_name(stage):
    c = stage.cluster()
    b = c["b"]
    b.kill()
    b.wipe()
    books, load = beside_load(stage, c, "disk")
    began = len(b.log_text())
    b.spawn()
    said([b], "member.refused", "node replace b")

    def linked():
        return {n["name"] for n in b.json("node", "list")["nodes"] if "link" in n}
    until("it knows the others", lambda: "a" in linked(), 20)
    need(linked() == {"a", "c"}, "it would be linked with %s" % sorted(linked()))
    need("leads back to the node itself" not in b.log_text()[began:], "it finds itself: " + b.tail())
    until("the old disk may be given up", lambda: c["a"].ctl("node", "replace", "b", "--yes")[0] == 0, 30)
    until("the new one is taken in", b.leased, 30)
    end(c, books, load)


@scenario(quick=True)
def node_of_another_cluster(stage):
    c = stage.cluster()
    books, load = beside_load(stage, c, "other")
    c.make_certs(["x"])
    x = c.stranger("x", name="other", copies=1, acks=1)
    x.start()
    until("x makes a cluster of its own", x.leased, 20)
    x.stop()
    x.write_config([], dict(c.spec))
    x.start()
    said([x], "refused", "cluster")
    need(not x.leased(), "it has a lease in our cluster")
    x.kill()
    end(c, books, load)


@scenario(quick=True)
def drain_that_would_leave_too_few_copies(stage):
    c = stage.cluster()
    books, load = beside_load(stage, c, "few")
    c["a"].do("node", "drain", "b", "--no-wait")
    words = c["b"].refused("node", "drain", "c")
    need("acks" in words and "copies" in words, "it is refused with: " + words)
    note(words.strip()[:230])
    c["c"].do("node", "undrain", "b")
    c.settle()
    two_drains_at_once(c)
    c.settle()
    end(c, books, load)


def two_drains_at_once(c):
    """Each asked of another node, whose map does not know of the other's yet."""
    until("all maps show all nodes active", lambda: all(n.do("node", "list").count("active") == 3 for n in c.live()), 20)
    with concurrent.futures.ThreadPoolExecutor() as both:
        said = list(both.map(lambda n: c[n].ctl("node", "drain", n, "--no-wait"), "bc"))
    need(sorted(code for code, _ in said) == [0, 1], "of two drains at once not one was refused: %s" % said)
    need("acks" in next(text for code, text in said if code), "it is refused with: %s" % said)
    for n, (code, _) in zip("bc", said):
        if code == 0:
            c["a"].do("node", "undrain", n)


@scenario(quick=True)
def garbage_on_the_peer_port(stage):
    c = stage.cluster()
    books, load = beside_load(stage, c, "garbage")
    rubbish = [b"GET / HTTP/1.0\r\n\r\n", os.urandom(4096), b"\x16\x03\x01\x40\x00" + os.urandom(20000), b"",
               b"\x16\x03\x01\x00\x05hello", b"\0" * 65536]

    def throw(node, part):
        with socket.create_connection((node.host, node.peer_port), 5) as s:
            try:
                s.sendall(part)
                s.settimeout(0.05)
                s.recv(100)
            except OSError:
                pass  # it may hang up when it likes

    for node in c.live():
        for part in rubbish * stage.size(2, 50):
            throw(node, part)
    need(all(n.alive() for n in c.nodes.values()), "a node ended")
    said([c["b"]], "link.stranger", "only nodes of the cluster", again=lambda: throw(c["b"], rubbish[0]))
    end(c, books, load)


class Nonsense(http.server.BaseHTTPRequestHandler):
    """An etcd that answers whatever it likes."""
    answers = [b"", b"{}", b"null", b"[]", b"{\"header\":{\"revision\":\"-1\"}}", b"<html>502</html>", b"\xff\xfe\x00",
               b"{\"kvs\":[{\"key\":\"!!\",\"value\":7}],\"count\":\"x\"}", b"[" * 10000, b"{\"ID\":\"0\",\"TTL\":\"-9\"}",
               b"{\"succeeded\":true,\"header\":{\"revision\":\"99999999999999999999\"}}"]
    asked = 0

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Nonsense.asked += 1
        body = Nonsense.answers[Nonsense.asked % len(Nonsense.answers)]
        self.send_response(200 if Nonsense.asked % 3 else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *args):
        pass


class NonsenseServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients hang up in the middle of it


def linked(node):
    """How many other nodes it reaches."""
    return sum(n["link"]["up"] for n in node.admin("GET", "/v1/nodes?local=1")["nodes"] if "link" in n)


@scenario(quick=True)
def etcd_that_answers_nonsense(stage):
    c = stage.cluster()
    books, load = beside_load(stage, c, "nonsense")
    server = NonsenseServer((c.etcd.host, 0), Nonsense)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    victim = c["c"]
    try:
        need(victim.stop() == 0, "c ended with %s" % victim.proc.returncode)
        victim.write_config([], dict(c.spec, **{"cluster.etcd": ["http://%s:%d" % server.server_address]}))
        victim.start()
        said([victim], "coord.", "etcd")
        # It still knows the cluster from its disk: it reaches the others and accepts, and relays nothing.
        until("c has its links", lambda: linked(victim) == len(c.nodes) - 1, 20, 0.05)
        r = books.push(victim, "-c", 2, "-n", 200, "-T", 20, "--domains", DOMAINS).wait(30)
        need(r["acked"] == 200, "with the map of its disk it accepted %d of 200: %s" % (r["acked"], r["replies"]))
        need(not victim.leased(), "it has a lease from nobody")
        until("more nonsense", lambda: Nonsense.asked > 50, 20)
        need(victim.alive(), "it ended: " + victim.tail())
        need(victim.stop() == 0, "c ended with %s: %s" % (victim.proc.returncode, victim.tail()))
    finally:
        server.shutdown()
        victim.write_config([], dict(c.spec))
    victim.start()
    c.settle()
    end(c, books, load)
