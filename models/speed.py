"""How fast a run goes."""

from collections.abc import Callable


class Speed:
    """How fast the steps go; the first segment of an attempt is left out, and whenever something was compiled."""

    def __init__(self, clock: Callable[[], float], batch_size: int, stride: int) -> None:
        self.clock, self.batch_size, self.stride = clock, batch_size, stride
        self.first = True
        self.steps, self.seconds = 0, 0.0
        self.compile_s = 0.0
        self.last = clock()

    def done(self, steps: int, compile_s: float) -> None:
        """These steps have come back; `compile_s`: the seconds spent compiling since the attempt began."""
        now = self.clock()
        if not self.first and compile_s == self.compile_s:
            self.steps += steps
            self.seconds += now - self.last
        self.first, self.last, self.compile_s = False, now, compile_s

    def pause(self) -> None:
        """Time spent on something else than steps ends here."""
        self.last = self.clock()

    @property
    def samples_per_s(self) -> float | None:
        return self.steps * self.batch_size / self.seconds if self.seconds > 0 else None

    def strides(self, seconds: float) -> int:
        """How many strides fill this time; one until it is known."""
        if not self.steps:
            return 1
        return max(1, int(seconds * self.steps / self.seconds / self.stride))
