#!/usr/bin/env python3
"""The program with a real Home Assistant and a real broker.

    discovery_test.py BMS_READER HASS

Prints a verdict for each check. Status 0: passed, 1: failed, 2: the test could not be set up.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile

import bank_test
import profile_test
import racks_test
import stack_test
from processes import SetupError
from suite import Suite


def main():
    program, hass = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    work = tempfile.mkdtemp(prefix="bms-lab-")
    status, suite = 2, Suite(program, hass, work)
    try:
        suite.start()
        for test in (racks_test, bank_test, stack_test, profile_test):
            test.run(suite)
        status = 1 if suite.failed else 0
    except SetupError as error:
        print(f"FAIL  set-up: {error}")
    finally:
        suite.stop()
        if keep := os.environ.get("BMS_LAB_KEEP"):
            with contextlib.suppress(OSError):
                shutil.copytree(work, keep, dirs_exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)
    print(f"home-assistant: {suite.passed} passed, {suite.failed} failed")
    sys.exit(status)


if __name__ == "__main__":
    main()
