#!/usr/bin/env python3
"""run.py - satcheld on DPDK's virtual devices, and on PCI NICs of a virtual machine (nics.py); Linux is the peer.

usage: tests/dpdk/run.py [--build DIR] [--full] [--keep] [--list] [NAME ...]

Scenarios are the functions of served.py, vhost.py, impaired.py and nics.py that start with `scenario_`; NAME picks some.
--full: what `make dpdk-full` runs.  Everything happens in namespaces of the run's own.  tests/scenarios.py says what is printed.
"""
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import scenarios  # noqa: E402
import impaired  # noqa: E402
import nics  # noqa: E402
import served  # noqa: E402
import vhost  # noqa: E402
import wire  # noqa: E402


def prepare(build):
    why = wire.why_not(build)
    if not why:
        wire.private()
    return why


if __name__ == "__main__":
    sys.exit(scenarios.main("dpdk", [served, vhost, impaired, nics], prepare))
