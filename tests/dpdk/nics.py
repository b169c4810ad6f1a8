"""nics.py - satcheld on PCI NICs, as docs/dpdk.md has an operator do it: huge pages, IOMMU, vfio, binding, rights; in a
virtual machine (vm.py) whose NICs and IOMMU are emulated.
"""
import os
import re
import smtplib
import socket
import struct
import threading

from programs import until
from scenarios import Skipped, need, note
from served import checksum, clients, need_none_lost, same, served
from vm import NIC, GuestNode, Machine
from wire import FRONT4, FRONT6, HERE4, HERE6, greeting, send, sh

VIRTIO = "virtio-net-pci,iommu_platform=on,disable-legacy=on,mq=on,rss=on,vectors=10"
NOT_IP = "verify_tcp make_tcp take_tag put_tag"
ALL = NOT_IP + " verify_ip make_ip"


def machine(house, *args, **kw):
    if not house.full:
        raise Skipped("a virtual machine takes a while: make dpdk-full")
    os.chmod(house.short, 0o777)  # where its socket lies
    return Machine(house, *args, **kw)


def bind(vm):
    vm.sh("modprobe vfio-pci && dpdk-devbind.py -b vfio-pci " + NIC)


def on_nic(house, model, queues=1):
    """A node that serves on a NIC of this model; queues: workers."""
    vm = machine(house, model, queues if "mq=on" in model else 1)
    bind(vm)
    node = GuestNode(house, vm, served(), {"dataplane.queues": queues})
    node.start(60)
    return node


# ---- frames by hand

VLAN = 7
ETH_P_ALL, SOL_PACKET, PACKET_AUXDATA = 3, 263, 8
TCP_SYN, TCP_SYN_ACK = 2, 18


def macs():
    ours = re.search(r"link/ether (\S+)", sh("ip -o link show c0"))[1]
    return bytes.fromhex("020000000025" + ours.replace(":", ""))


def tcp_syn(pseudo, wrong):
    h = struct.pack("!HHIIBBHHH", 1025, 25, 1, 0, 5 << 4, TCP_SYN, 512, 0, 0)
    return h[:16] + struct.pack("!H", checksum(pseudo + h) ^ wrong) + h[18:]


def syn4(wrong_ip=0, wrong_tcp=0):
    ends = socket.inet_aton(HERE4) + socket.inet_aton(FRONT4)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + ends
    ip = ip[:10] + struct.pack("!H", checksum(ip) ^ wrong_ip) + ip[12:]
    return b"\x08\x00" + ip + tcp_syn(ends + struct.pack("!HH", 6, 20), wrong_tcp)


def syn6(wrong_tcp=0):
    ends = b"".join(socket.inet_pton(socket.AF_INET6, a) for a in (HERE6, FRONT6))
    ip = struct.pack("!IHBB", 6 << 28, 20, 6, 64) + ends
    return b"\x86\xdd" + ip + tcp_syn(ends + struct.pack("!II", 20, 6), wrong_tcp)


def tagged(frame):
    return struct.pack("!HH", 0x8100, VLAN) + frame


def raw():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.bind(("c0", ETH_P_ALL))
    s.settimeout(10)
    return s


def arp_answered(s, asked):
    """In the VLAN the kernel has no address."""
    s.send(macs() + tagged(b"\x08\x06" + asked[14:20] + b"\0\2" + macs()[6:] + asked[38:42] + asked[22:32]))


def tcp_answer(s):
    """The next IPv4 segment from port 25: its VLAN, its flags, and whether its sums are right."""
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    while True:
        f, aux, _, _ = s.recvmsg(2048, 256)
        if f[12:14] == b"\x08\x06" and f[6:12] == macs()[:6] and f[38:42] == socket.inet_aton(HERE4):
            arp_answered(s, f)
        if f[12:14] != b"\x08\x00" or f[23] != 6 or f[34:36] != b"\0\x19":
            continue
        ip = f[14:14 + struct.unpack("!H", f[16:18])[0]]
        sums = checksum(ip[:20]) | checksum(ip[12:20] + struct.pack("!HH", 6, len(ip) - 20) + ip[20:])
        return struct.unpack("IIIHHHH", aux[0][2])[5], ip[33], sums == 0


def wrong_sums_are_dropped(node):
    before = node.counters()
    with raw() as s:
        for f in syn4(wrong_tcp=1), syn6(wrong_tcp=1), syn4(wrong_ip=1):
            s.send(macs() + f)

    def dropped():
        now = node.counters()
        return [now[name] - before[name] for name in ("drop_tcp_sum", "drop_ip_sum")] == [2, 1]
    until("two frames are dropped for their TCP sum, one for its IP sum", dropped, 10)
    need(node.counters()["tcp_syn_in"] == before["tcp_syn_in"], "one of them was a SYN")


def took_mail(node):
    """Every body whole, over IPv4 and IPv6, and the sums that the device saw to are right."""
    clients(node)
    c = node.counters()
    need(c["drop_tcp_sum"] == 0 and c["drop_ip_sum"] == 0, "sums are wrong: %s" % c)
    wrong_sums_are_dropped(node)
    for _ in range(5):  # idle in between
        need(greeting().startswith(b"220"), "no greeting")


def mail_until_it_ends(acked):
    try:
        while True:
            acked.append(send(b"Subject: kept\r\n\r\n%d\r\n" % len(acked), seconds=4))
    except (OSError, smtplib.SMTPException):
        pass


def killed(node):
    """kill -9 under load: the device comes back, and nothing is lost."""
    acked = []
    busy = [threading.Thread(target=mail_until_it_ends, args=(acked,)) for _ in range(3)]
    for t in busy:
        t.start()
    until("mail is taken", lambda: len(acked) > 20, 30)
    node.kill()
    for t in busy:
        t.join(30)
    node.start(60)
    need_none_lost(acked, node.queued())
    last = send(b"Subject: after\r\n\r\n\r\n")
    until("what was sent after it is in the queue", lambda: last in node.queued(), 10)
    note("%d acknowledged around a kill, lost 0" % len(acked))


def in_a_vlan(stopped):
    """The tag is taken off and put on, beside checksums; without it nothing is taken."""
    node = GuestNode(stopped.house, stopped.vm, served(), {"dataplane.vlan": VLAN})
    node.spawn()
    until("it is ready", lambda: stopped.log_text().count("daemon.ready") == 3, 30)
    with raw() as s:
        s.send(macs() + tagged(syn4()))
        tag, flags, sums = tcp_answer(s)
        need((tag, flags) == (VLAN, TCP_SYN_ACK), "answered with tag %d and flags %d" % (tag, flags))
        need(sums or node.vm.sums_left, "its sums are wrong")
        s.send(macs() + syn6())
        until("a frame without a tag is dropped", lambda: node.counters()["drop_vlan"] > 0, 10)
    need(node.counters()["tcp_syn_in"] == 1, "it was taken")
    need(node.stop() == 0, "exit status is not 0: " + node.tail())


def offers(node, driver, offloads, interrupts):
    d = node.show()["device"]
    have = {name for name, on in d["offloads"].items() if on}
    need(d["driver"] == driver, "the driver is %s" % d["driver"])
    need(have == set(offloads.split()), "it offers %s" % ", ".join(sorted(have)))
    need(d["interrupts"] == interrupts, "interrupts: %s" % d["interrupts"])


def serves(node, driver, offloads, interrupts=False):
    """All that is asked of each NIC."""
    took_mail(node)
    offers(node, driver, offloads, interrupts)
    shares = [q["tcp_accepted"] for q in node.show()["queues"]]
    need(min(shares) > 10, "connections of each worker: %s" % shares)
    killed(node)
    need(node.stop() == 0, "exit status is not 0: " + node.tail())
    in_a_vlan(node)


# ---- each NIC

def scenario_mail_over_e1000e(house):
    """An 82574L.  DPDK's driver enables interrupts that do not come."""
    serves(on_nic(house, "e1000e"), "net_e1000_em", ALL)


def scenario_mail_over_e1000(house):
    """An 82540EM, which has no queue for the second worker."""
    serves(on_nic(house, "e1000", 2), "net_e1000_em", ALL)


def scenario_mail_over_vmxnet3(house):
    """Its interrupts wake both workers; flows are spread in software."""
    serves(on_nic(house, "vmxnet3", 2), "net_vmxnet3", NOT_IP, True)


def scenario_mail_over_virtio_with_rss(house):
    """The device has a redirection table, and a queue for each of three workers."""
    node = on_nic(house, VIRTIO, 3)
    d = node.show()["device"]
    need(d["spreads_flows"] and d["receive_queues"] == 3, "device: %s" % d)
    serves(node, "net_virtio", NOT_IP)


# ---- without an IOMMU

def scenario_mail_over_uio_without_an_iommu(house):
    """Debian's vfio has no mode for it: uio_pci_generic, and root at the start."""
    vm = machine(house, "e1000e", iommu=False)
    bound = "modprobe uio_pci_generic && dpdk-devbind.py -b uio_pci_generic " + NIC
    node = GuestNode(house, vm, served(), {"user": "nobody"})
    refused(node, bound)
    vm.sh(bound)
    node.start(60)
    need(vm.sh("stat -c %%U /proc/%d" % node.proc.pid).strip() == "nobody", "it still runs as root")
    serves(node, "net_e1000_em", ALL)


# ---- a start that fails, and rights

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def refused(node, *words, before=()):
    node.spawn(before)
    need(node.proc.wait(30) == 69, "exit status %s: %s" % (node.proc.returncode, node.tail()))
    for w in words:
        need(w in node.tail(1), "%r is not in: %s" % (w, node.tail(1)))


def scenario_what_a_nic_needs(house):
    """Each step of the page left out is named by the error; another user serves once the group is its own."""
    vm = machine(house, "e1000e")
    node = GuestNode(house, vm, served())
    bound = "dpdk-devbind.py -b vfio-pci " + NIC
    refused(node, NIC + " is bound to no driver", bound)
    vm.sh("modprobe e1000e && ip addr add 203.0.113.9/24 dev eth0 && ip link set eth0 up")
    refused(node, NIC + " is bound to e1000e", bound)
    need("is active" in vm.sh("modprobe vfio-pci && " + bound, check=False), "an interface in use was taken away")
    vm.sh("ip link set eth0 down")
    bind(vm)
    vm.sh("sysctl -q -w vm.nr_hugepages=0")
    refused(node, "sysctl vm.nr_hugepages=")
    vm.sh("sysctl -q -w vm.nr_hugepages=256")
    refused(node, "/dev/vfio", "chown", before=AS_NOBODY)
    vm.sh("chown nobody /dev/vfio/[0-9]*")
    refused(node, "LimitMEMLOCK=infinity", before=["prlimit", "--memlock=8388608"] + AS_NOBODY)
    node.spawn(["prlimit", "--memlock=unlimited"] + AS_NOBODY)
    until("it greets", lambda: greeting(seconds=2).startswith(b"220"), 30)
    ident = send(b"Subject: x\r\n\r\nx\r\n")
    same(node, ident, b"Subject: x\r\n\r\nx\r\n", "a message")
    need(node.stop() == 0, "exit status is not 0: " + node.tail())


# ---- the kernel that operators run

def scenario_the_spool_on_debians_kernel(house):
    """The unit tests that ask the kernel for disks, sockets and io_uring; their files are below /data, a disk of its own."""
    vm = machine(house)
    for name in ("disk", "seglog", "spool", "transport"):
        p = vm.run(["env", "--chdir=/data", os.path.join(house.build, "tests/unit/test_" + name)], 300)
        said = (p.stdout + p.stderr).decode(errors="replace")
        need(p.returncode == 0, "test_%s: %s" % (name, said[-600:]))
        note("test_%s: %d passed" % (name, said.count("[       OK ]")))
