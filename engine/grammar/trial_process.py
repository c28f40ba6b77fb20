"""The process in which grammars are tried: one that takes too long is the end of it, and no more.

Each line of its input is a grammar, answered with a line when that is compiled, or refused.
"""

import math
import resource
import signal
import sys
import threading

from llguidance import LLMatcher, LLTokenizer

from .compiler import STACK, parser_limits


class Bytes:
    """The smallest vocabulary: what is dear in a grammar is so with any."""

    is_tokenizer_wrapper = True
    bos_token_id, eos_token_id = None, 256
    special_token_ids = (eos_token_id,)
    tokens = (*(bytes([each]) for each in range(256)), b"end")


def main(seconds: int) -> None:
    """Try grammars, each in so many seconds of the processor, until nobody asks any more."""
    tokenizer = LLTokenizer(Bytes())  # type: ignore[arg-type]
    for line in sys.stdin:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        until = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
        LLMatcher(tokenizer, line, log_level=0, limits=parser_limits())
        print(flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when its worker does
    threading.stack_size(STACK)
    threading.Thread(target=main, args=(int(sys.argv[1]),)).start()
