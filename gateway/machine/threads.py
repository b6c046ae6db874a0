"""Threads that the machine may refuse (TasksMax= of the unit, `ulimit -u`), and threads that were never started.

Law: what can be done without runs on without its thread, and the log says so; what cannot raises, for `shortage`.
"""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)

REFUSED = "no more threads or processes may be started"
ADVICE = "allow 64: TasksMax= of the unit, or ulimit -u"


def started(thread: threading.Thread) -> bool:
    """Start a thread; False, told in the log, where the machine allows no more."""
    try:
        thread.start()
    except RuntimeError:  # "can't start new thread"
        log.error("%s, so it goes on without one thread=%s advice=%s", REFUSED, thread.name, ADVICE)
        return False
    return True


def joined(thread: threading.Thread, within_s: float) -> bool:
    """Wait for the end of a thread, which may never have been started; False where it still runs after that time."""
    if thread.ident is not None:
        thread.join(within_s)
    return not thread.is_alive()
