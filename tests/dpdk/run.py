#!/usr/bin/env python3
"""run.py - satcheld on DPDK's virtual devices, with Linux and real mail clients as its peers.

usage: tests/dpdk/run.py [--build DIR] [--full] [--keep] [--list] [NAME ...]

Scenarios are the functions of served.py and impaired.py that start with `scenario_`; NAME picks some.  --full: what
`make dpdk-full` runs.  Everything happens in namespaces of the run's own.  Prints `ok NAME`, `not ok NAME: why` or
`skip NAME: why`, and closes with `N passed, N failed, N skipped`.
"""
import argparse
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire  # noqa: E402
import served  # noqa: E402
import impaired  # noqa: E402
from programs import Failed, House  # noqa: E402

MODULES = [served, impaired]


def scenarios():
    found = {}
    for module in MODULES:
        for name, f in vars(module).items():
            if name.startswith("scenario_"):
                found[name[len("scenario_"):]] = f
    return found


def run_one(name, function, args):
    begin = time.monotonic()
    house = House(args.build, "dpdk/" + name)
    house.full = args.full
    try:
        function(house)
        print("ok %s (%.1f s)" % (name, time.monotonic() - begin), flush=True)
        return "passed"
    except served.Skipped as e:
        print("skip %s: %s" % (name, e), flush=True)
        return "skipped"
    except Exception as e:  # whatever it is, the next scenario runs
        print("not ok %s: %s" % (name, e), flush=True)
        if not isinstance(e, Failed):
            traceback.print_exc(file=sys.stdout)
        print("  # see %s" % house.dir)
        return "failed"
    finally:
        house.close(args.keep)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build")
    p.add_argument("--full", action="store_true")
    p.add_argument("--keep", action="store_true", help="leave the directories")
    p.add_argument("--list", action="store_true")
    p.add_argument("names", nargs="*")
    args = p.parse_args()
    known = scenarios()
    for name in args.names:
        if name not in known:
            sys.exit("run.py: no scenario %s; there are: %s" % (name, ", ".join(known)))
    if args.list:
        print("\n".join(known))
        return 0
    why = wire.why_not(args.build)
    count = {"passed": 0, "failed": 0, "skipped": 0}
    if not why:
        wire.private()
    for name, function in known.items():
        if args.names and name not in args.names:
            continue
        if why:
            print("skip %s: %s" % (name, why))
            count["skipped"] += 1
        else:
            count[run_one(name, function, args)] += 1
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % count)
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
