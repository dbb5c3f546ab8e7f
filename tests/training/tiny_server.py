"""A server that starts tiny training runs, each in a process of its own, and waiting for what they do."""

import subprocess
import sys
import time
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
        return int(self.answer("pid"))

    def finish(self, code=0):
        assert int(self.answer("code")) == code, self.errors.read_text()

    def answer(self, key):
        for line in self.process.stdout:
            if line.startswith(key):
                return line.split()[1]
        raise AssertionError(self.errors.read_text())
