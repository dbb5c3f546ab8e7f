"""A server that starts tiny training runs, each in a process of its own, and waiting for what they do."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SCRIPT = Path(__file__).with_name("train_tiny.py")


def wait_for(condition, seconds=60):
    """Until the condition holds."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition()


class Server:
    """Starts tiny runs, each in a process of its own."""

    def __init__(self, errors):
        self.errors = errors
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(errors, "w"),
            text=True,
        )

    def start(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        self.child = int(self.answer("pid"))
        return self.child

    def finish(self, code=0):
        assert int(self.answer("code")) == code, self.errors.read_text()
        if code == -signal.SIGKILL:  # loader workers may wait for ever on a lock that the killed process held
            with suppress(ProcessLookupError):
                os.killpg(self.child, signal.SIGKILL)

    def answer(self, key):
        for line in self.process.stdout:
            if line.startswith(key):
                return line.split()[1]
        raise AssertionError(self.errors.read_text())
