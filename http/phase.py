"""The phases of a connection: which may come after which, and how long each may last."""

from enum import IntEnum


class Phase(IntEnum):
    """The part of an exchange that is here; the tables have one place for each, in this order."""

    IDLE = 0  # nothing
    HEADER = 1  # a part of its header
    BODY = 2  # its header, and not all of its body
    ANSWERING = 3  # all of the request: the handler runs, or its stream
    LINGERING = 4  # what will not be read, after the last answer; the client may still send it
    CLOSING = 5  # nothing, and nothing will be; what was written is being sent


IDLE, HEADER, BODY, ANSWERING, LINGERING, CLOSING = Phase
FOLLOWERS = (
    (HEADER, BODY, LINGERING, CLOSING),  # of IDLE
    (BODY, LINGERING),  # of HEADER
    (ANSWERING, LINGERING),  # of BODY
    (IDLE, LINGERING, CLOSING),  # of ANSWERING
    (),  # of LINGERING
    (CLOSING,),  # of CLOSING: being asked to stop repeats it
)
DEADLINES = {IDLE: "keep_alive", HEADER: "header", BODY: "pause"}  # refused: LINGER; slow: stall
OVERDUE = {HEADER: "header took too long", BODY: "body did not arrive"}
