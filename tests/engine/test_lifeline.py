"""What follows a pipe: it hears what comes, and ends when the other end has gone."""

import os
import threading

from bessemer.engine.lifeline import follow


def test_a_sign_is_heard_and_an_end_is_followed() -> None:
    reads, writes = os.pipe()
    gone = threading.Event()
    heard = follow(reads, gone.set)
    assert not heard.is_set()
    os.write(writes, b"\n")
    assert heard.wait(30) and not gone.is_set()
    os.close(writes)
    assert gone.wait(30)
    os.close(reads)
