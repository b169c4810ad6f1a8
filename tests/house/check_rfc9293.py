#!/usr/bin/env python3
"""Each MUST of RFC 9293 has a row in tests/pkt/README.md: a packet script whose remarks say its number, a unit test, or
the reason why there is none; and no script claims a requirement that its row does not know.  TAP."""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PKT = os.path.join(ROOT, "tests/pkt")
LAST = 69


def rows():
    """(number, the last column) of each row."""
    with open(os.path.join(PKT, "README.md")) as f:
        for line in f:
            m = re.match(r"\| (\d+) \| [^|]+ \| ([^|]+) \|$", line)
            if m:
                yield int(m[1]), m[2]


def claims():
    """{script: the numbers that its remarks say}"""
    said = {}
    for name in os.listdir(PKT):
        if name.endswith(".pkt"):
            with open(os.path.join(PKT, name)) as f:
                text = f.read()
            said[name[:-4]] = {int(n) for n in re.findall(r"MUST-(\d+)", text)}
    return said


def unit_exists(program, test):
    path = os.path.join(ROOT, "tests/unit", program + ".c")
    if not os.path.exists(path):
        return False
    with open(path) as f:
        return f"static void {test}(" in f.read()


def row_faults(number, shown, said):
    """What is wrong with one row; the scripts that it names."""
    named = re.findall(r"\b[a-z0-9]+(?:-[a-z0-9]+)+\b|\bconnect\b", re.sub(r"\*.*", "", shown))
    units = re.findall(r"\b(test_\w+):(test_\w+)", shown)
    faults = [f"MUST-{number}: no script {n}.pkt" for n in named if n not in said]
    faults += [f"MUST-{number}: {n}.pkt does not say it" for n in named if n in said and number not in said[n]]
    faults += [f"MUST-{number}: no unit test {p}:{t}" for p, t in units if not unit_exists(p, t)]
    if not named and not units and not re.search(r"\*(Not done|Does not apply)\*: \w", shown):
        faults.append(f"MUST-{number}: shown by nothing, and no reason given")
    return faults, set(named)


def main():
    said, seen, faults = claims(), {}, []
    for number, shown in rows():
        if number in seen:
            faults.append(f"MUST-{number} stands twice")
        bad, seen[number] = row_faults(number, shown, said)
        faults += bad
    faults += [f"MUST-{n} has no row" for n in range(1, LAST + 1) if n not in seen]
    for script, numbers in sorted(said.items()):
        faults += [f"{script}.pkt says MUST-{n}, its row does not name it" for n in sorted(numbers)
                   if script not in seen.get(n, ())]
    print("1..1")
    for fault in faults:
        print("#", fault)
    print("not ok" if faults else "ok", "1 - each MUST of RFC 9293 has its test")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
