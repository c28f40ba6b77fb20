"""What follows a pipe: it hears what comes, and ends when the other end has gone."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from bessemer.engine.lifeline import follow

END = """
import subprocess, sys
from bessemer.engine.lifeline import end
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
end()
"""


@pytest.mark.parametrize("leads", [True, False])
def test_what_a_process_started_ends_with_it_where_it_leads_a_group(leads: bool) -> None:
    """Else the group is somebody else's, which goes on."""
    shell = [] if leads else ["sh", "-c", '"$@"; exit $?', "sh"]  # which leads instead
    command = [*shell, sys.executable, "-P", "-c", END]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.wait(60) == (-signal.SIGKILL if leads else 0)
        if not leads:
            os.kill(child, signal.SIGKILL)  # it is there to be ended
        assert process.stdout.read() == b""  # nobody has it open


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
