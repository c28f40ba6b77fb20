"""The pipes of the two processes of `bessemer run`, with a real pipe's limits."""

import os
import threading

from bessemer.engine.answer_wire import Ask, Begin, answerer_link, asker_link
from bessemer.engine.memory import Plan
from bessemer.engine.request import GenerationDefaults, Request, Sampling, Thought
from bessemer.engine.settings import OneAnswer, Settings
from bessemer.engine.text.vocabulary import VocabularyFile
from bessemer.engine.wire import VERSION, Ready

BEGIN = Begin("toy", "/models/toy", 10**9, Settings(threads=3), live=True)
ASK = Ask(
    Request(
        id=1, tokens=[1, 2], max_tokens=3, sampling=Sampling(seed=4), thought=Thought("<", ">")
    ),
    VocabularyFile(b"x" * 3_000_000, b"\x01\x00\x00\x00" * 9, {7: True}, b"null"),
)
READY = Ready(VERSION, Plan(1, 2, 3, 4, 5, 6), "llama", GenerationDefaults(stop=["END"]), 99)


def test_all_messages_arrive_in_order_however_large() -> None:
    (hears, asks), (asked, tells) = os.pipe(), os.pipe()
    asker, answerer = asker_link(asked, asks), answerer_link(hears, tells)
    sent = [BEGIN, OneAnswer(12, None), ASK]
    thread = threading.Thread(target=lambda: [*map(asker.send, sent)])
    thread.start()
    assert [answerer.receive() for _ in sent] == sent
    thread.join()
    answerer.send(READY)
    assert asker.receive() == READY
    for descriptor in (hears, asks, asked, tells):
        os.close(descriptor)


def test_who_has_gone_says_nothing_and_hears_nothing() -> None:
    (hears, asks), (asked, tells) = os.pipe(), os.pipe()
    asker = asker_link(asked, asks)
    os.close(hears)
    os.close(tells)
    asker.send(BEGIN)  # to nobody
    assert asker.receive() is None
    os.close(asks)
    os.close(asked)
