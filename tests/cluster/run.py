#!/usr/bin/env python3
"""run.py - clusters of real processes with real etcd: after everything that can go wrong, each 250 against the sinks.

usage: tests/cluster/run.py [--build DIR] [--full] [--keep] [--list] [NAME ...]

Scenarios are the functions of planned.py, crash.py, cut.py, pools.py, recipients.py, refused.py and shared.py that are
marked with @scenario; the quick ones run in `make test`, all of them with --full (`make cluster-full`).  NAME picks
some.  Output is TAP.
"""
import os
import subprocess
import sys
import time
import traceback

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import wires  # noqa: E402
from scenarios import Skipped, arguments  # noqa: E402
from stage import SCENARIOS, Stage  # noqa: E402
from programs import Failed  # noqa: E402
import planned  # noqa: E402,F401
import crash  # noqa: E402,F401
import cut  # noqa: E402,F401
import pools  # noqa: E402,F401
import recipients  # noqa: E402,F401
import refused  # noqa: E402,F401
import shared  # noqa: E402,F401


def run_one(number, s, stage):
    begin = time.monotonic()
    label = "%d - %s" % (number, s.name)
    try:
        s.run(stage)
        print("ok %s # %.1f s" % (label, time.monotonic() - begin), flush=True)
        return True
    except Skipped as e:
        print("ok %s # SKIP %s" % (label, e), flush=True)
        return True
    except Exception as e:  # whatever it is, the next scenario runs
        print("not ok %s: %s" % (label, e), flush=True)
        if not isinstance(e, Failed):
            traceback.print_exc(file=sys.stdout)
        stage.show()
        stage.close(keep=True)
        return False


def main():
    args = arguments([s.name for s in SCENARIOS], "all scenarios, with large numbers")
    if args.list:
        print("\n".join("%-40s %s" % (s.name, "quick" if s.quick else "full") for s in SCENARIOS))
        return 0
    wires.enter()
    stage = Stage(args.build, args.full, args.keep)
    chosen = [s for s in SCENARIOS if (s.name in args.names if args.names else args.full or s.quick)]
    try:
        results = [run_one(i + 1, s, stage) for i, s in enumerate(chosen)]
    finally:
        stage.close()
    print("1..%d" % len(chosen))
    return 0 if all(results) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, subprocess.TimeoutExpired) as e:
        sys.exit("run.py: %r" % e)
