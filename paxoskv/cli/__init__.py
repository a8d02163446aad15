"""The ``paxoskv`` command.

Exit codes: 0 done, 1 nothing there (get), 2 wrong usage, 3 version taken, 4 unavailable,
5 compacted, 6 another error of ours, 70 a bug, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final

import click

from .._version import __version__
from ..errors import Compacted, PaxosKVError, Unavailable, VersionTaken
from .acceptor import init, serve
from .client import get, propose, set_
from .demo import demo

EXIT_TAKEN: Final = 3
EXIT_UNAVAILABLE: Final = 4
EXIT_COMPACTED: Final = 5
EXIT_OURS: Final = 6
EXIT_BUG: Final = 70
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE_CLOSED: Final = 141


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="paxoskv %(version)s")
def cli() -> None:
    """A linearizable key-value store: every version of every key is one Paxos instance.

    \b
    See it at work:    paxoskv demo
    Make a cluster:    paxoskv init ./demo 127.0.0.1:3331 127.0.0.1:3332 127.0.0.1:3333
    Run an acceptor:   paxoskv serve ./demo/1 --memory    (and 2, and 3)
    Write and read:    export PAXOSKV_CLUSTER=127.0.0.1:3331,127.0.0.1:3332,127.0.0.1:3333
                       paxoskv set foo 0 '{"answer": 42}'
                       paxoskv get foo --ver 0

    \b
    Exit codes: 0 done, 1 nothing there (get), 2 wrong usage, 3 version taken,
    4 unavailable, 5 compacted, 6 another error, 70 a bug.
    """  # noqa: D301 - click wants the control character: do not wrap what follows


for _command in (init, serve, set_, propose, get, demo):
    cli.add_command(_command)


def main() -> None:
    """Run the command line, and exit with the code that tells what happened."""
    sys.exit(_run())


def _run() -> int:
    try:
        result = cli.main(standalone_mode=False, prog_name="paxoskv")
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except PaxosKVError as error:
        return _fail(str(error), _exit_code(error))
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has seen enough, which click takes for a reason to exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001 - the last resort: whatever it is, it is a bug
        traceback.print_exc()
        return _fail("this is a bug in paxoskv; please report the lines above", EXIT_BUG)
    return result if isinstance(result, int) else 0


def _exit_code(error: PaxosKVError) -> int:
    match error:
        case VersionTaken():
            return EXIT_TAKEN
        case Unavailable():
            return EXIT_UNAVAILABLE
        case Compacted():
            return EXIT_COMPACTED
        case _:
            return EXIT_OURS


def _fail(message: str, code: int) -> int:
    click.echo(f"paxoskv: {message}", err=True)
    return code
