#!/usr/bin/env python3
"""Keeps the dependencies of the house running one way (docs/tour.md draws it).

Reads every #include of the tree and refuses those that no rule below allows.  Prints TAP.
"""
import pathlib
import re
import sys

# Room: what its files may include from the house.  The longest prefix that matches a file is its room.
ROOMS = {
    "spool/base/": ["spool/base/"],
    "spool/format/": ["spool/base/", "spool/format/"],
    "spool/segment/": ["spool/base/", "spool/format/", "spool/segment/"],
    "spool/index/": ["spool/base/", "spool/index/"],
    "spool/queue/": ["spool/base/", "spool/format/", "spool/segment/", "spool/index/", "spool/queue/"],
    "spool/": ["spool/"],
    "dataplane/conf/": ["spool/base/", "dataplane/conf/", "dataplane/tcp/ip.h", "dataplane/tcp/addr_text.h"],
    "dataplane/net/": ["spool/base/", "dataplane/net/", "dataplane/tcp/"],
    "dataplane/tcp/": ["spool/base/", "dataplane/tcp/"],
    "dataplane/smtp/": ["spool/base/", "spool/format/", "spool/intake.h", "dataplane/conf/domains.h",
                        "dataplane/conf/recipients.h", "dataplane/net/transport.h", "dataplane/smtp/"],
    "dataplane/relay/": ["spool/base/", "spool/format/", "spool/outlet.h", "dataplane/conf/domains.h",
                         "dataplane/smtp/", "dataplane/relay/"],
    "cluster/coord/": ["spool/base/", "cluster/coord/"],
    "cluster/map/": ["spool/base/", "spool/format/", "cluster/coord/coord.h", "cluster/map/"],
    "cluster/link/": ["spool/base/", "spool/format/", "cluster/link/"],
    "cluster/copies/": ["spool/base/", "spool/format/", "spool/storage.h", "spool/copier.h", "cluster/link/",
                        "cluster/map/map.h", "cluster/copies/"],
    "cluster/own/": ["spool/base/", "spool/format/", "spool/storage.h", "spool/outlet.h", "cluster/coord/coord.h",
                     "cluster/link/", "cluster/map/", "cluster/copies/copies.h", "cluster/own/"],
    "cluster/shared/": ["spool/base/", "spool/format/", "spool/segment/", "spool/storage.h", "cluster/map/map.h",
                        "cluster/shared/"],
    "cluster/domains/": ["spool/base/", "spool/format/", "cluster/coord/coord.h", "cluster/link/", "cluster/domains/", "dataplane/conf/domains.h",
                         "dataplane/conf/domains_json.h"],
    "cluster/": ["spool/", "cluster/", "dataplane/conf/domains.h"],
    "ctl/": ["spool/", "dataplane/conf/", "dataplane/relay/relay.h", "dataplane/front.h",
             "dataplane/tcp/addr_text.h", "dataplane/tcp/stats.h", "cluster/cluster.h", "ctl/"],
    "dataplane/front": ["spool/", "dataplane/"],
    "dataplane/satcheld.c": ["spool/", "dataplane/", "ctl/", "cluster/"],
    "bench/": ["spool/", "dataplane/", "cluster/", "bench/"],
    "tests/": [],  # anything
}

# A library is wrapped in the files named here, and known nowhere else.
LIBRARIES = {
    r"rte_.*": ["dataplane/net/port_dpdk"],
    r"liburing\.h": ["spool/segment/disk_uring.c", "dataplane/net/uring.c", "dataplane/net/uring_"],
    r"rocksdb/.*": ["spool/index/index_rocks.c"],
    r"ares\.h": ["dataplane/relay/"],
    r"yaml\.h": ["dataplane/conf/settings"],
    r"microhttpd\.h": ["ctl/admin"],
    r"curl/.*": ["ctl/client", "cluster/coord/etcd"],
    r"openssl/.*": ["cluster/link/tls"],
    r"zstd\.h": ["cluster/domains/", "dataplane/conf/recipients_file.c"],
    r"libsmartcols/.*": ["ctl/table.c"],
    r"jansson\.h": ["ctl/", "dataplane/conf/domains", "cluster/coord/etcd", "cluster/map/map_json.c", "cluster/domains/"],
    r"systemd/.*": ["dataplane/satcheld.c", "dataplane/conf/"],
    r"xxhash\.h": ["spool/", "bench/", "cluster/map/", "cluster/domains/", "cluster/copies/", "dataplane/conf/recipients"],
}


def room_of(path):
    rooms = [r for r in ROOMS if path.startswith(r)]
    return max(rooms, key=len) if rooms else None


def problems_of(path, text):
    room = room_of(path)
    if room is None:
        yield f"{path}: lies in no known room"
        return
    for number, line in enumerate(text.splitlines(), 1):
        house = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        library = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        if house and not path.startswith("tests/") and not any(house[1].startswith(a) for a in ROOMS[room]):
            yield f"{path}:{number}: {room} must not include {house[1]}"
        if library and not path.startswith(("tests/", "bench/")):
            for pattern, wrappers in LIBRARIES.items():
                if re.fullmatch(pattern, library[1]) and not any(path.startswith(w) for w in wrappers):
                    yield f"{path}:{number}: {library[1]} is wrapped in {', '.join(wrappers)}"


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    files = [p for d in ("spool", "dataplane", "cluster", "ctl", "bench", "tests") for p in sorted((root / d).rglob("*.[ch]"))]
    found = [w for p in files for w in problems_of(str(p.relative_to(root)), p.read_text())]
    for w in found:
        print("#", w)
    print(f"{'not ok' if found else 'ok'} 1 - includes run one way ({len(files)} files)")
    print("1..1")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
