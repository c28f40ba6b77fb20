"""Who may come in: sequences, counted by client before anything is made of them (pure)."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from time import monotonic

from .request import Refusal, overloaded

ENDS = 64  # the latest ends by which the time until the next ones is estimated
LONGEST = 60  # seconds; a client is never told to stay away for more
TEXTS = 32  # texts to embed or to rank that count as one sequence


class Place:
    """The sequences of one request that are counted; each leaves once."""

    def __init__(self, admission: "Admission", client: str, count: int) -> None:
        self._admission = admission
        self._client = client
        self._count = count

    def leave(self, count: int = 1) -> None:
        """Give back that many, or what is left."""
        count = min(count, self._count)
        self._count -= count
        self._admission.leave(self._client, count)

    def close(self) -> None:
        self.leave(self._count)


class Admission:
    """The sequences that run, `batch` of them, or wait.

    A client alone may have `queue` of them wait. Where several have some, none may have more than
    it leaves free of twice what one alone may have: however many come from one client, or from a
    few, another finds room. Never more than twice `queue` wait in all; none does where it is 0.
    """

    def __init__(self, batch: int, queue: int, now: Callable[[], float] = monotonic) -> None:
        self._batch = batch
        self._queue = queue
        self._now = now
        self._counts = Counter[str]()
        self._total = 0
        self._ends = deque[float](maxlen=ENDS)

    def sequences(self, texts: int) -> int:
        """Count texts to embed or to rank as sequences: never as more than run at once."""
        return min(-(-texts // TEXTS), self._batch)

    @contextmanager
    def admitted(self, client: str, count: int) -> Iterator[Place]:
        """Count sequences in for as long as they are not over. Raises Refusal."""
        self.enter(client, count)
        place = Place(self, client, count)
        try:
            yield place
        finally:
            place.close()

    def enter(self, client: str, count: int = 1) -> None:
        """Count sequences in, all or none; raises Refusal where there is no room for them."""
        if count > self._batch + self._queue:
            raise _too_many(count, self._batch + self._queue)
        if (excess := self._excess(client, count)) > 0:
            raise overloaded(self._seconds(excess))
        self._counts[client] += count
        self._total += count

    def leave(self, client: str, count: int = 1) -> None:
        """Count sequences out that were counted in."""
        if not count:
            return
        self._counts[client] -= count
        self._total -= count
        if not self._counts[client]:
            del self._counts[client]
        self._ends.extend([self._now()] * min(count, ENDS))

    def _excess(self, client: str, count: int) -> int:
        """Return how many sequences have to end before these can come in."""
        total = self._total + count
        alone = self._counts[client] + count + total - 2 * (self._batch + self._queue)
        return max(total - self._batch - 2 * self._queue, ceil(alone / 2))

    def _seconds(self, excess: int) -> int:
        """Estimate the time until so many have ended, by how fast the latest did."""
        if not self._ends:
            return 1
        rate = len(self._ends) / max(self._now() - self._ends[0], 1e-3)
        return min(max(ceil(excess / rate), 1), LONGEST)


def _too_many(count: int, most: int) -> Refusal:
    return Refusal(
        400,
        "too_many_sequences",
        f"This request is for {count} sequences (its prompts or texts, times n), but this server "
        f"takes {most} at a time (--max-batch and --queue together): send fewer at once.",
    )
