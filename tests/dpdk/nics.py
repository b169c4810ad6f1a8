"""nics.py - satcheld on PCI NICs, as docs/dpdk.md has an operator do it: huge pages, IOMMU, vfio, binding, rights; in a
virtual machine (vm.py) whose NICs and IOMMU are emulated.
"""
import os
import smtplib
import threading

from programs import until
from scenarios import Skipped, need, note
from served import clients, need_none_lost, same, served
from vm import NIC, GuestNode, Machine
from wire import greeting, send

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


def on_nic(house, model, queues=1, settings=(), **kw):
    """A node that serves on a NIC of this model; queues: workers."""
    vm = machine(house, model, queues if "mq=on" in model else 1, **kw)
    bind(vm)
    node = GuestNode(house, vm, served(), dict(settings, **{"dataplane.queues": queues}))
    node.start(60)
    return node


def took_mail(node):
    """Every body whole, over IPv4 and IPv6, and the sums that the device saw to are right."""
    clients(node)
    c = node.counters()
    need(c["drop_tcp_sum"] == 0 and c["drop_ip_sum"] == 0, "sums are wrong: %s" % c)
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
    acked.append(send(b"Subject: after\r\n\r\n\r\n"))
    need_none_lost(acked, node.queued())
    note("%d acknowledged around a kill, lost 0" % len(acked))


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
    """The unit tests that ask the kernel for disks, sockets and io_uring."""
    vm = machine(house)
    vm.sh("mkdir /data/tmp && chmod 1777 /data/tmp && mount --bind /data/tmp /tmp")
    for name in ("disk", "seglog", "spool", "transport"):
        p = vm.run(["env", "--chdir=/data", os.path.join(house.build, "tests/unit/test_" + name)], 300)
        said = (p.stdout + p.stderr).decode(errors="replace")
        need(p.returncode == 0, "test_%s: %s" % (name, said[-600:]))
        note("test_%s: %d passed" % (name, said.count("[       OK ]")))
