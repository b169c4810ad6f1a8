"""guest.py - process 1 of the virtual machine that vm.py boots: does what it is told over a virtio-serial port, a line of
JSON at a time, [function, argument ...], and answers each with one.  When it ends, so does the machine.
"""
import base64
import glob
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../ledger"))
from programs import unix_request, until  # noqa: E402

children = {}


def run(cmd, seconds):
    p = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds)
    return p.returncode, base64.b64encode(p.stdout).decode(), base64.b64encode(p.stderr).decode()


def spawn(cmd, log):
    with open(log, "ab") as f:
        p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=f, stderr=f)
    children[p.pid] = p
    return p.pid


def poll(pid):
    return children[pid].poll()


def signal(pid, number):
    children[pid].send_signal(number)


def http(*request):
    """To the admin API: programs.unix_request's arguments."""
    code, body = unix_request(*request)
    return code, body.decode()


FUNCTIONS = {f.__name__: f for f in (run, spawn, poll, signal, http)}


def answer(name, *args):
    try:
        return {"value": FUNCTIONS[name](*args)}
    except Exception as e:  # the other side decides what it means
        return {"failed": "%s: %s" % (type(e).__name__, e)}


def port():
    """The device of the port that the other side calls `guest`."""
    for path in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(path) as f:
            if f.read().strip() == "guest":
                return "/dev/" + os.path.basename(os.path.dirname(path))
    return None


def say(f, what):
    f.write(json.dumps(what).encode() + b"\n")
    f.flush()


def main():
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    subprocess.run("mkfs.ext4 -q /dev/vda && mkdir -p /data && mount /dev/vda /data && chmod 777 /data && ip link set lo up"
                   " && mkdir /dev/hugepages && mount -t hugetlbfs huge /dev/hugepages", shell=True, check=True)
    path = until("the port is there", port, 10)
    fd = os.open(path, os.O_RDWR)
    with open(fd, "rb") as asked, open(fd, "wb", closefd=False) as answers:
        say(answers, "ready")
        for line in asked:
            say(answers, answer(*json.loads(line)))


main()
