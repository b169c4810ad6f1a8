#!/usr/bin/env python3
"""Runs test programs and adds up what they say.

usage: tests/run.py [-j JOBS] [--alone NAME,NAME...] [--seconds N] NAME=COMMAND ...

Each COMMAND is run by the shell from the root of the tree, its output kept in build/tests/logs/NAME.log.  Counted are TAP
lines (ok, not ok, # SKIP) or, where there are none, a last line `N passed, N failed[, N skipped]`.  A command that ends
with a code other than 0 and names no failed test counts as one; so does one that is ended after N seconds.
Suites named by --alone run after all others, one at a time: those with servers and clocks of their own.
The output ends with what was skipped, what failed, why it failed (few lines each, so that the end of a long log has them
all), and `N passed, N failed`.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "tests" / "logs"
REASON_LINES = 15  # of one failure
ENDING_LINES = 36  # of all failures together
under_way = set()


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


def end(proc):
    """Ends a command and whatever it started."""
    try:
        os.killpg(proc.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def end_all():
    for proc in list(under_way):
        end(proc)


def outcome(name, command, seconds):
    """Runs it; what it said and the code it ended with."""
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP")
    with open(LOGS / f"{name}.log", "w+b") as log:
        proc = subprocess.Popen(command, shell=True, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                stderr=subprocess.STDOUT, start_new_session=True)
        under_way.add(proc)
        try:
            code = proc.wait(seconds)
        except subprocess.TimeoutExpired:
            end(proc)
            proc.wait()
            code = f"124 (over {seconds} s)"
        under_way.discard(proc)
        log.seek(0)
        return log.read().decode(errors="replace"), code


def run(name, command, seconds):
    result, start = Result(name), time.monotonic()
    result.text, code = outcome(name, command, seconds)
    count(result, result.text, code)
    result.seconds = time.monotonic() - start
    print(f"{'FAIL' if result.failed else 'pass'}  {name:<28} {result.passed:5} passed  {result.seconds:6.1f} s", flush=True)
    return result


def remarks(lines):
    """How many of these lines, from the first on, are somebody's remarks and not TAP."""
    return next((i for i, line in enumerate(lines) if re.match(r"(ok|not ok)\b|\d+\.\.\d+$", line)), len(lines))


def reasons(result):
    """A failed suite's own words: a list of lines for each `not ok`, with the remarks behind it or, where there are none,
    before it; else what a sanitizer or an assertion said; else how it ends."""
    lines = [line for line in result.text.splitlines() if line.strip()]
    said = []
    for i in (i for i, line in enumerate(lines) if re.match(r"not ok\b", line)):
        behind, before = remarks(lines[i + 1:]), remarks(lines[:i][::-1])
        said.append([lines[i]] + (lines[i + 1:i + 1 + behind] if behind else lines[i - min(before, REASON_LINES):i]))
    if not said:
        fault = r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|[Aa]ssertion .* failed|FAIL|failed:"
        at = next((i for i, line in enumerate(lines) if re.search(fault, line)), max(0, len(lines) - REASON_LINES))
        said.append(lines[at:])
    return [words[:REASON_LINES + 1] for words in said]


def tell(failed):
    """Why they failed, each as long as ENDING_LINES allow."""
    told = [(r, words) for r in failed for words in reasons(r)]
    most = max(2, ENDING_LINES // max(1, len(told)) - 1)
    for r, words in told:
        print(f"---- {r.name}: build/tests/logs/{r.name}.log")
        for line in words[:most]:
            print(f"  | {line[:220]}")


def run_all(args):
    suites = [s.split("=", 1) for s in args.suites]
    alone = [s for s in suites if s[0] in args.alone.split(",")]
    with concurrent.futures.ThreadPoolExecutor(args.j) as pool:
        jobs = [pool.submit(run, *s, args.seconds) for s in suites if s not in alone]
        try:
            results = [j.result() for j in jobs]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()
            raise
    return results + [run(*s, args.seconds) for s in alone]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("--alone", default="")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("suites", nargs="+")
    args = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    results = run_all(args)
    for r in results:
        for s in r.skipped:
            print(f"skipped: {r.name}: {s}")
    for r in results:
        for f in r.failed:
            print(f"failed: {r.name}: {f[:220]}")
    tell([r for r in results if r.failed])
    passed, failed = sum(r.passed for r in results), sum(len(r.failed) for r in results)
    skipped = sum(len(r.skipped) for r in results)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("run.py: interrupted")
    finally:
        end_all()
