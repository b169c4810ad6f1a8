"""vhost.py - satcheld behind a software switch on the same machine, over a vhost-user socket: net_virtio_user, as in a
container, and net_vhost, as for guests.

The switch is DPDK's own testpmd, which forwards between the socket and a veth; behind the veth is Linux.
"""
import os
import shutil
import smtplib
import subprocess

from programs import until
from scenarios import Skipped, need
from served import clients, need_none_lost, same, served, whole_messages
from wire import FRONT4, PortNode, greeting, send, veth


class Switch:
    """testpmd between `device` and the front-end's end of the veth."""

    def __init__(self, house, space, device):
        if not shutil.which("dpdk-testpmd"):
            raise Skipped("no dpdk-testpmd here: make deps-test")
        self.house, self.space, self.device, self.proc = house, space, device, None
        self.log = os.path.join(house.dir, "switch.log")

    def start(self):
        cpus = ",".join(str(c) for c in sorted(os.sched_getaffinity(0)))
        cmd = ["dpdk-testpmd", "--no-huge", "--no-pci", "-m", "256", "--no-shconf", "--no-telemetry",
               "--lcores=0@(%s),1@(%s)" % (cpus, cpus), "--vdev=" + self.device, "--vdev=net_af_packet0,iface=s0",
               "--", "--forward-mode=io", "--auto-start", "--total-num-mbufs=8192"]
        with open(self.log, "ab") as log:  # it ends when its standard input does
            self.proc = self.house.start(self.space.command(cmd), stdin=subprocess.PIPE, stdout=log, stderr=log)

    def kill(self):
        self.proc.kill()
        self.proc.wait()


def on_socket(house, ours, theirs, mac, queues=1):
    """A node whose device's socket the switch's device has the other end of."""
    path, space = os.path.join(house.short, "vhost"), veth(house)
    node = PortNode(house, "node", served(), ours % path + mac, space, {"dataplane.queues": queues})
    return node, Switch(house, space, theirs % path), path


def as_virtio_user(house):
    return on_socket(house, "net_virtio_user0,path=%s,server=1", "net_vhost0,iface=%s,client=1", ",mac=02:00:00:00:00:25")


def as_vhost(house):
    return on_socket(house, "net_vhost0,iface=%s", "net_virtio_user0,path=%s,mac=02:00:00:00:00:99", "", 2)


def link_up(node):
    return node.show()["device"]["link_up"]


def ready(node, times=1):
    until("%s is ready" % node.name, lambda: node.log_text().count("daemon.ready") == times, 20)


def greets(switch):
    def up():
        need(switch.proc.poll() is None, "the switch ended: see " + switch.log)
        return greeting(seconds=2).startswith(b"220")
    until("it greets", up, 30)


def connected(house, make):
    node, switch, path = make(house)
    node.spawn()
    if make is as_vhost:
        ready(node)
    switch.start()
    greets(switch)
    return node, switch, path


def scenario_mail_over_virtio_user(house):
    node, _, _ = connected(house, as_virtio_user)
    clients(node)
    need(link_up(node) and node.show()["device"]["driver"] == "net_virtio_user", "device: %s" % node.show()["device"])
    offloads = node.show()["device"]["offloads"]
    need(offloads["verify_tcp"] and offloads["make_tcp"], "sums need not be made for a copy in memory: %s" % offloads)
    need(node.counters()["drop_tcp_sum"] == 0, "sums that were left unmade counted as wrong")
    need(node.stop() == 0, "exit status is not 0")


def scenario_mail_over_vhost(house):
    node, switch, _ = as_vhost(house)
    node.spawn()
    ready(node)
    need(not link_up(node), "nobody is at the other end, and the link is up")
    need(", link DOWN," in node.ctl("port", "show")[1], "`port show` does not say so")
    switch.start()
    greets(switch)
    clients(node)
    need(", link up," in node.ctl("port", "show")[1], "`port show` does not say so")
    shares = [q["tcp_accepted"] for q in node.show()["queues"]]
    need(min(shares) > 0, "a worker got no connection: %s" % shares)
    need(node.stop() == 0, "exit status is not 0")


def outlived(node, switch):
    """A session stands while the switch is killed and comes back; its message is taken."""
    body = b"Subject: before and after\r\n\r\nx\r\n"
    with smtplib.SMTP(FRONT4, 25, "client.test", timeout=60) as s:
        s.ehlo()
        s.mail("s@client.test")
        switch.kill()
        until("the link is down", lambda: not link_up(node), 10)
        switch.start()
        until("the link is up", lambda: link_up(node), 20)
        s.rcpt("u@example.test")
        code, text = s.data(body)
        need(code == 250, "the session did not go on: %d %r" % (code, text))
    same(node, text.decode().split()[-1], body, "what was sent across it")


def switch_goes_and_comes(node, switch):
    for _ in range(2):
        outlived(node, switch)
    whole_messages(node)
    need(node.log_text().count("event=port.link") >= 4, "the log does not tell: " + node.tail(8))
    need(node.stop() == 0, "exit status is not 0")


def scenario_virtio_user_outlives_the_switch(house):
    node, switch, _ = connected(house, as_virtio_user)
    switch_goes_and_comes(node, switch)
    said = node.log_text().count("virtio-user port 0 is down")
    need(1 <= said <= 6, "the driver's complaint stands %d times in the log" % said)


def scenario_vhost_outlives_the_switch(house):
    node, switch, _ = connected(house, as_vhost)
    switch_goes_and_comes(node, switch)


def killed(house, make, then):
    """satcheld is killed, and leaves its socket."""
    node, switch, path = connected(house, make)
    acked = [send(b"Subject: kept\r\n\r\n%d\r\n" % i) for i in range(20)]
    node.kill()
    need(os.path.exists(path), "no socket was left: nothing is tested")
    node.spawn()
    then(node, switch)
    greets(switch)
    acked.append(send(b"Subject: after\r\n\r\n\r\n"))
    until("all are bagged", lambda: node.bagged() == len(acked), 10)
    need_none_lost(acked, node.queued())
    need("event=port.socket_left" in node.log_text(), "the log does not tell of the socket")
    need(node.stop() == 0, "exit status is not 0")


def scenario_killed_behind_a_switch(house):
    """The switch's net_vhost comes back by itself."""
    killed(house, as_virtio_user, lambda node, switch: None)


def scenario_killed_in_front_of_a_guest(house):
    """A guest's net_virtio_user does not: it is started again."""
    def guest_again(node, switch):
        ready(node, 2)
        switch.kill()
        switch.start()
    killed(house, as_vhost, guest_again)
