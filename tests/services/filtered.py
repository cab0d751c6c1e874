"""Runs a program under the system calls that a unit of systemd allows: UNIT PROGRAM ARGUMENTS…

One that the unit refuses ends it, whatever `SystemCallErrorNumber` says there: what is refused is
to be seen. Groups of system calls are those of the systemd that is installed.
"""

import os
import subprocess
import sys

import pyseccomp

# What systemd lets everybody do, or does itself before the program runs.
ALWAYS = {"execve", "exit", "exit_group", "getrlimit", "rt_sigreturn", "sigreturn", "time"}


def calls(name):
    """The system calls of a group, or the one of that name."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = (line.strip() for line in told.stdout.splitlines()[1:])
    return set().union(*(calls(line) for line in lines if line and not line.startswith("#")))


def allowed(unit):
    """What the lines of a unit come to, one after the other (systemd.exec(5))."""
    found = ALWAYS | calls("@default")
    for line in unit:
        key, _, value = line.strip().partition("=")
        if key != "SystemCallFilter":
            continue
        named = set().union(*(calls(name) for name in value.lstrip("~").split()))
        found = found - named if value.startswith("~") else found | named
    return found


def main():
    unit, *command = sys.argv[1:]
    with open(unit, encoding="utf-8") as lines:
        names = allowed(lines)
    known = pyseccomp.SyscallFilter(defaction=pyseccomp.KILL_PROCESS)
    for name in sorted(names):
        try:
            known.add_rule(pyseccomp.ALLOW, name)
        except (OSError, ValueError):
            pass  # One of another architecture.
    known.load()
    os.execv(command[0], command)


main()
