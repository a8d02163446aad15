"""The exit codes of the ``paxoskv`` command. 0 is done, and 2 is wrong usage, as in click."""

from typing import Final

EXIT_NOTHING: Final = 1
EXIT_TAKEN: Final = 3
EXIT_UNAVAILABLE: Final = 4
EXIT_COMPACTED: Final = 5
EXIT_OURS: Final = 6
EXIT_BUG: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE_CLOSED: Final = 141
