"""The ``paxoskv`` command.

Exit codes: 0 done, 1 nothing there, 2 wrong usage, 3 version taken, 4 unavailable, 5
compacted, 6 another error of ours, 70 a bug, 130 interrupted, 141 nobody reads the output.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import click

from .._version import COMPILED, __version__
from ..errors import SETTLE, Compacted, PaxosKVError, Unavailable, VersionTaken
from .acceptor import init, serve
from .client import delete, get, history, propose, put, scan, set_, status
from .demo import demo
from .exits import (
    EXIT_BUG,
    EXIT_COMPACTED,
    EXIT_INTERRUPTED,
    EXIT_OURS,
    EXIT_PIPE_CLOSED,
    EXIT_TAKEN,
    EXIT_UNAVAILABLE,
)
from .output import drop, heard_or_not


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__, message="paxoskv %(version)s" + (", compiled" if COMPILED else "")
)
def cli() -> None:
    """A linearizable key-value store: every version of every key is one Paxos instance.

    \b
    See it at work:    paxoskv demo
    Make a cluster:    paxoskv init ./demo 127.0.0.1:3331 127.0.0.1:3332 127.0.0.1:3333
    Run an acceptor:   paxoskv serve ./demo/1    (and 2, and 3)
    Write and read:    export PAXOSKV_CLUSTER=127.0.0.1:3331,127.0.0.1:3332,127.0.0.1:3333
                       paxoskv put foo '{"answer": 42}'
                       paxoskv get foo
                       paxoskv set foo 1 'a compare-and-set'
                       paxoskv status

    \b
    Exit codes: 0 done, 1 nothing there, 2 wrong usage, 3 version taken,
    4 unavailable, 5 compacted, 6 another error, 70 a bug, 130 interrupted, 141 nobody
    reads the output any more.
    """  # noqa: D301 - click wants the control character: do not wrap what follows


for _command in (init, serve, get, put, set_, propose, delete, history, scan, status, demo):
    cli.add_command(_command)


def main() -> None:
    """Run the command line, and exit with the code that tells what happened."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed before we began
            setattr(sys, name, Path(os.devnull).open("r+", encoding="utf-8"))  # noqa: SIM115
    sys.exit(_run())


def _run() -> int:
    try:
        result = cli.main(standalone_mode=False, prog_name="paxoskv")
        sys.stdout.flush()
    except click.ClickException as error:
        with heard_or_not():
            error.show()
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except Unavailable as error:
        look = ": look with `paxoskv get` before you write it again"
        return _fail(str(error).replace(SETTLE, look), EXIT_UNAVAILABLE)
    except PaxosKVError as error:
        return _fail(str(error), _exit_code(error))
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has seen enough, which click takes for a reason to exit.
        drop(sys.stdout)
        return EXIT_PIPE_CLOSED
    except OSError as error:
        drop(sys.stdout)
        return _fail(f"cannot go on: {error.strerror or error}", EXIT_OURS)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001 - the last resort: whatever it is, it is a bug
        with heard_or_not():
            traceback.print_exc()
        return _fail("this is a bug in paxoskv; please report the lines above", EXIT_BUG)
    return result if isinstance(result, int) else 0


def _exit_code(error: PaxosKVError) -> int:
    match error:
        case VersionTaken():
            return EXIT_TAKEN
        case Compacted():
            return EXIT_COMPACTED
        case _:
            return EXIT_OURS


def _fail(message: str, code: int) -> int:
    with heard_or_not():
        click.echo(f"paxoskv: {message}", err=True)
    return code
