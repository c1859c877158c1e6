"""Ctrl-C in the command: one sentence and exit code 130, also in the second that it takes to be imported.

The package imports this room before all others, and it imports next to nothing. It changes nothing in a process that was not
started as the command.
"""

import os
import signal
import sys
from itertools import pairwise

NAME = "bt-margin"
INTERRUPTED = 130


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. One that is no KeyboardInterrupt itself, since of one that has passed through exec() Python dies, caught or not."""


def lift() -> None:
    """Let Ctrl-C raise from here on: what follows catches it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, _raise)


def _raise(*_: object) -> None:
    raise Interrupted


def _end(*_: object) -> None:
    os.write(2, f"{NAME}: stopped before it began\n".encode())
    os._exit(INTERRUPTED)  # an exception could get lost in a callback of the import system


def _is_command() -> bool:
    """Return whether this process was started as ``bt-margin`` or ``python -m bt_margin``."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # stands for a module as long as that is looked for
        return ("-m", __package__) in pairwise(sys.orig_argv)
    return program.replace("\\", "/").rpartition("/")[2].removesuffix(".exe") == NAME


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as of what runs in the background
    signal.signal(signal.SIGINT, _end)
