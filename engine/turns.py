"""The sequences that wait: clients take turns, each with its own in the order of their arrival."""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heapreplace

from .sequence import Sequence


class Turns:
    """The queues of all clients; who was served last is the last of those with as many running."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[Sequence, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, sequence: Sequence) -> None:
        """Add a sequence at the end of its client's queue."""
        self._queues.setdefault(sequence.request.client, {})[sequence] = None
        self._count += 1

    def put_back(self, sequence: Sequence) -> None:
        """Add a sequence that ran already at the head of its client's queue."""
        client = sequence.request.client
        self._queues[client] = {sequence: None} | self._queues.get(client, {})
        self._count += 1

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, whose client then comes after the others."""
        client = sequence.request.client
        queue = self._queues.pop(client)
        del queue[sequence]
        if queue:
            self._queues[client] = queue
        self._count -= 1

    def candidates(self, running: Mapping[str, int]) -> Iterator[Sequence]:
        """Yield sequences in the order in which they may begin: of the client with fewest first.

        Each that was yielded counts as running, so that no client has all the looks.
        """
        heap = [
            (running.get(client, 0), place, client, iter(list(queue)))
            for place, (client, queue) in enumerate(self._queues.items())
        ]
        heapify(heap)
        while heap:
            count, place, client, queue = heap[0]
            sequence = next(queue, None)
            if sequence is None:
                heappop(heap)
            else:
                heapreplace(heap, (count + 1, place, client, queue))
                yield sequence
