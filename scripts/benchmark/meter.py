"""Runs a command and writes what it cost: `meter.py REPORT COMMAND...`.

As the reaper of orphans it waits for every process that the command leaves behind, so that forked
plug-ins and daemons are counted too. INT and TERM are passed on to the command. Needs nothing but
the standard library, and little of that: it is started for every measurement.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    report, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda sent, _: os.kill(pid, sent))
    status, wall, own = 0, 0.0, 0.0
    while True:
        try:
            child, state, used = os.wait4(-1, 0)
        except ChildProcessError:
            break
        if child == pid:
            status, wall = os.waitstatus_to_exitcode(state), time.monotonic() - start
            own = used.ru_utime + used.ru_stime
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = {
        "user": used.ru_utime,
        "system": used.ru_stime,
        "command": own,
        "wall": wall,
        "rss": used.ru_maxrss << 10,
        "status": status,
    }
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123 (pathlib is slow to import)
        json.dump(cost, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
