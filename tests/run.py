#!/usr/bin/env python3
"""Runs test programs and adds up what they say.

usage: tests/run.py [-j JOBS] [--alone NAME,NAME...] [--seconds N] NAME=COMMAND ...

Each COMMAND is run by the shell from the root of the tree, its output kept in build/tests/logs/NAME.log and shown when
something failed.  Counted are TAP lines (ok, not ok, # SKIP) or, where there are none, a last line
`N passed, N failed[, N skipped]`.  A command that ends with a code other than 0 and names no failed test counts as one.
The last line is `N passed, N failed`, with the skipped tests named above it.  Suites named by --alone run after all others,
one at a time: those with servers and clocks of their own.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "tests" / "logs"


class Result:
    def __init__(self, name):
        self.name, self.passed, self.failed, self.skipped, self.seconds, self.text = name, 0, [], [], 0.0, ""


def count(result, text, code):
    summary = None
    for line in text.splitlines():
        tap = re.match(r"(ok|not ok)\b(?:\s+\d+)?(?:\s+-)?\s*(.*)", line)
        if tap and re.search(r"#\s*skip", tap[2], re.I):
            result.skipped.append(tap[2])
        elif tap and tap[1] == "ok":
            result.passed += 1
        elif tap:
            result.failed.append(tap[2] or "unnamed")
        skip = re.match(r"skip\s+(.*)", line)
        if skip:
            result.skipped.append(skip[1])
        summary = re.match(r"(?:.*: )?(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", line) or summary
    if summary and not result.passed and not result.failed:
        result.passed = int(summary[1])
        result.failed = [f"{summary[2]} of its tests"] * int(summary[2])
    if code != 0 and not result.failed:
        result.failed.append(f"ended with code {code}")
    if code == 0 and not result.passed and not result.failed and not result.skipped:
        result.failed.append("ran no test")


def run(name, command, seconds):
    result, start = Result(name), time.monotonic()
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP")
    try:
        done = subprocess.run(command, shell=True, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds)
        text, code = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as e:
        text, code = (e.stdout or b"").decode(errors="replace"), f"124 (over {seconds} s)"
    (LOGS / f"{name}.log").write_text(text)
    count(result, text, code)
    result.seconds = time.monotonic() - start
    print(f"{'FAIL' if result.failed else 'pass'}  {name:<28} {result.passed:5} passed  {result.seconds:6.1f} s", flush=True)
    result.text = text
    return result


def tell(result):
    """A failed suite's own words: each `not ok` with what stands around it, else its last lines."""
    lines = result.text.splitlines()
    at = [i for i, line in enumerate(lines) if line.startswith("not ok") or "FAIL" in line or "failed:" in line][:8]
    shown = sorted({k for i in at for k in range(max(0, i - 3), min(len(lines), i + 9))}) or range(max(0, len(lines) - 20), len(lines))
    for i in shown:
        print(f"      | {lines[i][:220]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("--alone", default="")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("suites", nargs="+")
    args = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    suites = [s.split("=", 1) for s in args.suites]
    alone = [s for s in suites if s[0] in args.alone.split(",")]
    with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
        jobs = [pool.submit(run, *s, args.seconds) for s in suites if s not in alone]
        results = [j.result() for j in jobs]
    results += [run(*s, args.seconds) for s in alone]
    for r in results:
        if r.failed:
            print(f"---- {r.name}: build/tests/logs/{r.name}.log")
            tell(r)
    for r in results:
        for s in r.skipped:
            print(f"skipped: {r.name}: {s}")
        for f in r.failed:
            print(f"failed: {r.name}: {f}")
    passed, failed = sum(r.passed for r in results), sum(len(r.failed) for r in results)
    skipped = sum(len(r.skipped) for r in results)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
