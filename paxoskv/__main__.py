"""``python -m paxoskv`` is the ``paxoskv`` command."""

from .cli import main

main()
