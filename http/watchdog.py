"""A watchdog over a worker: whether it gives signs of life, and whether it gets on."""

from dataclasses import dataclass

from ..engine.wire import Pulse

STARTING = Pulse("starting", 0, 0.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The seconds that a worker may give no sign of life, and that it may do the same thing."""

    silence: float = 30.0
    standstill: float = 300.0

    @property
    def tick(self) -> float:
        """The seconds between two looks."""
        return min(self.silence / 4, 1.0)


class Watchdog:
    """Counts the seconds since a worker was heard, and since it got on with what it does.

    They are counted look by look: a server that was stopped, or had no time, has not waited.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pulse = STARTING
        self.silent = 0.0
        self.still = 0.0

    @property
    def worried(self) -> bool:
        """Whether the worker has been silent for longer than it ever is."""
        return self.pulse is not STARTING and self.silent > self._limits.silence / 3

    def stepped(self) -> None:
        """Note that a step's result came."""
        self.silent = self.still = 0.0

    def beat(self, pulse: Pulse) -> bool:
        """Note a sign of life; return whether the worker got on since the last one."""
        moved = pulse.count != self.pulse.count
        self.silent, self.still = 0.0, 0.0 if moved else self.still
        self.pulse = pulse
        return moved

    def look(self) -> str:
        """Let a tick pass; return what the worker is to be ended for, if it is."""
        limits, doing = self._limits, self.pulse.doing
        self.silent += limits.tick
        self.still += limits.tick if doing else 0.0
        # Until its first word a process is being loaded itself, from whatever disk.
        silence = limits.standstill if self.pulse is STARTING else limits.silence
        if self.silent > silence:
            return f"it gave no sign of life for {silence:g} s"
        if self.still > limits.standstill:
            return f"it did not get on for {limits.standstill:g} s, {doing or 'waiting'}"
        return ""
