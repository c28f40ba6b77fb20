"""What becomes of a worker that the system kills because memory is short."""

LESS = 0.75  # of the memory that a process had, for the one after it
DEATHS = 3  # for want of memory, one after another, after which a model stays down
LONG = 60.0  # seconds of service after which deaths before it count no more


class Shortage:
    """Counts a worker's deaths for want of memory, and says what its next process may take.

    `why` is empty as long as another process may be started.
    """

    def __init__(self, memory: int) -> None:
        self._least = int(memory * LESS ** (DEATHS - 1))
        self._deaths = 0
        self.why = ""

    def killed(self, memory: int) -> int:
        """Note the death of a process that had `memory` bytes; return the next one's."""
        self._deaths += 1
        if self._deaths == DEATHS:
            self.why = f"it was killed {DEATHS} times because memory was short"
        return min(memory, max(int(memory * LESS), self._least))

    def failed(self, reason: str) -> None:
        """Note that a process could not load its model; with less memory it will never."""
        if self._deaths:
            self.why = f"it was killed because memory was short, and with less of it: {reason}"

    def served(self, seconds: float) -> None:
        """Note that a process has served, perhaps for so long that deaths before it are past."""
        self._deaths = 0 if seconds > LONG else self._deaths
