"""scenarios.py - runs scenarios with real programs, one after the other: functions named `scenario_NAME` that take a House
(tests/ledger/programs.py) and raise when something is wrong.

Prints `ok NAME`, `not ok NAME: why` or `skip NAME: why`, and closes with `N passed, N failed, N skipped`.
"""
import argparse
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "ledger"))
from programs import Failed, House  # noqa: E402


class Skipped(Exception):
    """The text says what this machine lacks."""


def need(condition, why):
    if not condition:
        raise Failed(why)


def note(text):
    print("  # " + text, flush=True)


def scenarios(modules):
    return {name[len("scenario_"):]: f for m in modules for name, f in vars(m).items() if name.startswith("scenario_")}


def run_one(name, function, house, keep):
    begin = time.monotonic()
    try:
        function(house)
        print("ok %s (%.1f s)" % (name, time.monotonic() - begin), flush=True)
        return "passed"
    except Skipped as e:
        print("skip %s: %s" % (name, e), flush=True)
        return "skipped"
    except Exception as e:  # whatever it is, the next scenario runs
        print("not ok %s: %s" % (name, e), flush=True)
        if not isinstance(e, Failed):
            traceback.print_exc(file=sys.stdout)
        print("  # see %s" % house.dir)
        return "failed"
    finally:
        house.close(keep)


def run_all(room, chosen, args, why_not):
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for name, function in chosen.items():
        if why_not:
            print("skip %s: %s" % (name, why_not))
            count["skipped"] += 1
            continue
        house = House(args.build, room + "/" + name)
        house.full = args.full
        count[run_one(name, function, house, args.keep)] += 1
    print("%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % count)
    return 1 if count["failed"] else 0


def arguments(known, full):
    """Those of a run.py; known: names of its scenarios; full: what --full is for."""
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build")
    p.add_argument("--full", action="store_true", help=full)
    p.add_argument("--keep", action="store_true", help="leave the directories, wherever they are")
    p.add_argument("--list", action="store_true")
    p.add_argument("names", nargs="*")
    args = p.parse_args()
    for name in args.names:
        if name not in known:
            sys.exit("run.py: no scenario %s; --list shows them" % name)
    return args


def main(room, modules, prepare=lambda build: None):
    """room: of the build directory, where the scenarios' own are.  prepare: called once before the first; what it returns
    is why none of them can run here.  Returns the exit status."""
    known = scenarios(modules)
    args = arguments(known, "also what takes long")
    if args.list:
        print("\n".join(known))
        return 0
    chosen = {name: f for name, f in known.items() if not args.names or name in args.names}
    return run_all(room, chosen, args, prepare(args.build))
