"""One request's state in the engine: its tokens, how far they are computed, its pages."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from .prefix_cache import Node
from .request import Request
from .text import AnswerText


@dataclass(slots=True, eq=False)
class Sequence:
    """`tokens` is prompt and answer; the first `computed` of them have keys and values in `pages`.

    The first len(path) pages belong to the prefix tree, the others to this sequence alone.
    """

    request: Request
    tokens: "array[int]"
    draws: np.random.Generator
    text: AnswerText | None = None  # where stop strings have to be looked for
    computed: int = 0
    cached: int = -1  # tokens found in the prefix cache when first admitted
    reported: int = 1  # prompt positions whose logprobs are out; the first token has none
    pages: list[int] = field(default_factory=list)
    path: list[Node] = field(default_factory=list)
    seen: Counter[int] = field(default_factory=Counter)  # of the answer, where a penalty needs it

    @classmethod
    def of(cls, request: Request, text: AnswerText | None = None) -> "Sequence":
        # Philox is a counter: the n-th draw depends on the seed and n alone.
        draws = np.random.Generator(np.random.Philox(key=request.sampling.seed % 2**64))
        return cls(request, array("I", request.tokens), draws, text)

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.tokens)

    def page_key(self, index: int, size: int) -> bytes:
        return self.tokens[index * size : (index + 1) * size].tobytes()
