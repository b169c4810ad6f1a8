"""recipients.py - lists of recipients: set on one node, asked by all, while etcd holds their names alone."""
import base64
import json
import os
import shutil
import smtplib
import urllib.request

from fleet import until
from scenarios import need, note
from stage import scenario

DOMAIN = "listed.test"
COUNT = 200000


def rcpt(node, local, domain=DOMAIN):
    """The code that the node gives to this recipient."""
    with smtplib.SMTP(node.host, node.port, "client", timeout=10) as s:
        s.ehlo()
        s.mail("me@example.net")
        return s.rcpt("%s@%s" % (local, domain))[0]


def list_of(c, prefix, count=COUNT):
    path = os.path.join(c.house.room("lists"), prefix)
    with open(path, "w") as f:
        f.writelines("%s.%06d@%s\n" % (prefix, i, DOMAIN) for i in range(count))
    return path


def asked_by(nodes, prefix, seconds=10):
    """All these nodes take who is on the list of that prefix, and nobody else."""
    for n in nodes:
        until("%s takes who is listed, and nobody else" % n.name,
              lambda: (rcpt(n, prefix + ".000000"), rcpt(n, "nobody")) == (250, 550), seconds, 0.05)
        need(rcpt(n, "%s.%06d" % (prefix.upper(), COUNT - 1)) == 250, "%s refuses the last recipient" % n.name)
        need(rcpt(n, "%s.%06d" % (prefix, COUNT)) == 550, "%s takes who is not listed" % n.name)


def lists_kept(node):
    where = os.path.join(node.data, "lists")
    return sorted(os.listdir(where)) if os.path.isdir(where) else []


def domains_in_etcd(c):
    """Bytes of all domains in etcd."""
    key, end = (base64.b64encode(k).decode() for k in (b"/satchel/", b"/satchel0"))
    body = json.dumps({"key": key, "range_end": end}).encode()
    with urllib.request.urlopen(c.etcd.urls()[0] + "/v3/kv/range", body, timeout=5) as r:
        kvs = json.load(r).get("kvs", [])
    return sum(len(base64.b64decode(kv.get("value", ""))) for kv in kvs if b"/domains/" in base64.b64decode(kv["key"]))


@scenario(quick=True)
def list_of_recipients(stage):
    c = stage.cluster()
    a, b, other = c["a"], c["b"], c["c"]
    if DOMAIN not in a.serves():
        c.serve([DOMAIN])
    a.do("domain", "recipients", DOMAIN, "--clear")
    until("no list is asked", lambda: all(rcpt(n, "nobody") == 250 for n in (a, b, other)), 5, 0.05)
    before = domains_in_etcd(c)
    a.do("domain", "recipients", DOMAIN, "--set", list_of(c, "first"))
    name = a.json("domain", "recipients", DOMAIN)["list"]
    need(sum(name in lists_kept(n) for n in (b, other)) >= 1, "nobody else had the list when it was set")
    asked_by((a, b, other), "first")
    need(b.json("domain", "show", DOMAIN)["recipients"]["count"] == COUNT, "b counts otherwise")
    grown = domains_in_etcd(c) - before
    need(grown < 200, "etcd grew by %d bytes" % grown)
    note("%d recipients: etcd grew by %d bytes" % (COUNT, grown))

    note("a node that was away hears of another list, whoever set it is gone meanwhile")
    other.kill()
    a.do("domain", "recipients", DOMAIN, "--set", list_of(c, "second"))
    asked_by((a, b), "second")
    a.kill()
    other.start()
    asked_by((other,), "second", 20)

    note("a node that lost its lists fetches them")
    other.stop()
    shutil.rmtree(os.path.join(other.data, "lists"))
    other.start()
    asked_by((other,), "second", 20)
    need(b.do("domain", "recipients", DOMAIN, "--add", "new.one"), "nothing said")
    until("c takes who was added", lambda: rcpt(other, "new.one") == 250, 10, 0.05)
    c.heal()
    asked_by((a, b, other), "second")
    until("a takes who was added", lambda: rcpt(a, "new.one") == 250, 10, 0.05)
    a.do("domain", "recipients", DOMAIN, "--clear")
    until("everyone is taken again", lambda: all(rcpt(n, "nobody") == 250 for n in (a, b, other)), 5, 0.05)
