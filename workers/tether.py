"""Run a command that dies with its parent: `python tether.py PARENT_PID COMMAND...`

Run by path as a program of its own (standard library only, so that it starts in a few milliseconds): asking
for the parent's death signal between fork and exec, in `preexec_fn`, can deadlock a parent that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie_to(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; exit at once if it already has.

    Linux only. The setting survives exec. Elsewhere a trainer still ends when its standard input closes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("tether: the parent has ended")


def main(parent: str, *command: str) -> None:
    tie_to(int(parent))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
