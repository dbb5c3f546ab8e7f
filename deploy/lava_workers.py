"""Lava's worker processes under watch. Python 3.10, lava-nc only; imports nothing of neuro.

Lava keeps what a worker raises in a pipe and waits for ever; a worker that was killed, by the system for want of memory
for instance, leaves it waiting too. After `watch()`, the first worker that raises or dies ends the whole run, with its
traceback or its signal on stderr, and so does the end of whoever started the run.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback

from lava.magma.runtime.message_infrastructure import multiprocessing as infrastructure

SECONDS = 0.2       # between two looks
WORKERS = []        # process ids of those that this process started


def watch():
    """Call once in the main process, before anything runs."""
    main, parent = os.getpid(), os.getppid()
    start = infrastructure.SystemProcess.start

    def run(self):
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        try:
            multiprocessing.Process.run(self)
            self._cconn.send(None)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            os.kill(main, signal.SIGUSR1)

    def remember(self):
        start(self)
        WORKERS.append(self.pid)

    infrastructure.SystemProcess.run = run
    infrastructure.SystemProcess.start = remember
    signal.signal(signal.SIGUSR1, lambda *_: give_up())
    threading.Thread(target=look, args=(parent,), daemon=True).start()      # threads are not inherited by workers


def look(parent):
    """End the run when a worker died or its starter is gone."""
    while True:
        for pid in list(WORKERS):
            how = ended_badly(pid)
            if how:
                print(f"A worker process of Lava ended by {how}.", file=sys.stderr, flush=True)
                give_up()
        if os.getppid() != parent:
            give_up()
        time.sleep(SECONDS)


def ended_badly(pid):
    """How a child died, "" if it runs, ended well or was reaped; it stays to be reaped by Lava."""
    if not hasattr(os, "waitid"):
        return ""
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return ""
    if found is None or found.si_status == 0:
        return ""
    return f"exit status {found.si_status}" if found.si_code == os.CLD_EXITED else f"signal {signal.Signals(found.si_status).name}"


def give_up():
    """End every child and this process; what was printed says why. A group of its own is ended whole."""
    for child in multiprocessing.active_children():     # the workers, and the manager of the shared memory
        child.terminate()
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGTERM)        # the tracker of shared memory survives that, and frees it
    os._exit(1)
