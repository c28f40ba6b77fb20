"""Whether a model bears a KV cache in few bits: it reads a short text with it, and without.

Nothing in a checkpoint tells: it is a few channels of its keys that few bits do not hold.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ..architectures.config import Recurrent
from ..architectures.decoder import Decoder
from ..kernels.attention.pages import PAGE, Format
from .batch import Batch, Output
from .cache_sizes import CacheSizes
from .engine import Engine
from .kv_cache import allocate
from .request import Request
from .runner import Runner
from .scheduler import Limits

if TYPE_CHECKING:
    from .text.tokenizer import Tokenizer

TOKENS, SKIPPED = 256, 64  # that are read, and of them those with too little before them to count
SUFFERS = 0.05  # nats: about one token in eight is another one then
TEXT = """\
For most of history steel was rare. Smiths made it by the pound, in crucibles and over charcoal,
and kept it for blades and springs; bridges, rails and boilers were of iron. In 1856 Henry Bessemer
showed that a blast of cold air through molten pig iron, with no fuel at all, burns out its carbon
in twenty minutes, and that the burning itself keeps the metal hot. His converter was a pear of
riveted plate, lined with brick and hung on trunnions: it lay on its side to be filled, was raised
for the blow, and tipped to pour. Those who watched remembered the flame at its mouth. It was first
dull and smoky, then white and roaring, and when it dropped, the charge was done. A foreman who
waited ten seconds too long had spoiled eight tons.

It did not work everywhere. Ores with phosphorus gave brittle steel, until Sidney Thomas lined the
vessel with dolomite and added lime, which took the phosphorus into the slag, and farmers bought
the slag. Where the metal had been overblown, Robert Mushet put back manganese and a little carbon.
Within thirty years a ton of rails cost a fifth of what it had, and the length of the world's
railways had doubled twice. What is the lesson? A process that is quick must also be watched, for
there is no time to correct it: measure the ore first, then the flame, and then the bar.
"""


@dataclass(slots=True)
class _Read:
    """A decoder with a small cache of its own, which keeps the logits of what it reads."""

    runner: Runner
    logits: list[mx.array] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Output:
        out = self.runner(batch)
        self.logits.append(out.logits)
        return out


def kv_divergence(decoder: Decoder, tokenizer: "Tokenizer", narrow: Format, wide: Format) -> float:
    """Return what the KL divergence of a narrow cache from a wide one may be, in nats.

    That is the mean over a text, and two standard errors, for it is a short one.
    """
    far, near = (_log_probabilities(decoder, tokenizer, each) for each in (wide, narrow))
    sample = (np.exp(far) * (far - near)).sum(-1)[SKIPPED:]
    return float(sample.mean() + 2 * sample.std() / np.sqrt(len(sample)))


def _log_probabilities(decoder: Decoder, tokenizer: "Tokenizer", format: Format) -> np.ndarray:
    config, tokens = decoder.config, tokenizer.encode(TEXT, special=True)[:TOKENS]
    pages = len(tokens) // PAGE + 2
    states = 2 if any(isinstance(each, Recurrent) for each in config.caches) else 0
    sizes = CacheSizes(tuple(config.windows), (pages,) * len(config.windows), states)
    read = _Read(Runner(decoder, allocate(config, sizes, format)))
    limits = Limits(len(tokens) + 1, 1, 1, len(tokens), PAGE)
    engine = Engine(read, limits, sizes, (), tokenizer.answer_text, config.ropes)
    engine.submit(Request(id=1, tokens=list(tokens), max_tokens=0, prompt_logprobs=0))
    for _ in engine.run():
        pass
    logits = np.concatenate([np.array(each.astype(mx.float32)) for each in read.logits])
    low = logits - logits.max(-1, keepdims=True)
    out: np.ndarray = low - np.log(np.exp(low).sum(-1, keepdims=True))
    return out
