"""How much memory this process has taken."""

from pathlib import Path

STATUS = Path("/proc/self/status")
HIGH_WATER = "VmHWM:"


def peak_memory_bytes() -> int | None:
    """The most of the machine's memory that this process has held at once; a GPU's own is not counted. None where the
    system does not say.

    Not `getrusage`: there a process begins with what its parent had. Source: `man 5 proc_pid_status`.
    """
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    held = (line.split()[1] for line in lines if line.startswith(HIGH_WATER))
    return next((int(kibibytes) * 1024 for kibibytes in held), None)
