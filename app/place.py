"""Where a process stands among those that serve one port."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Which of the processes this is, counted from 0; `folder` holds their sockets, None where there is only one."""

    number: int = 0
    folder: Path | None = None

    @property
    def socket(self) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.number}.sock"
