"""What the model checker looks for."""

from __future__ import annotations

from typing import Final

from paxoskv.errors import ProtocolError


class Violation(Exception):  # noqa: N818 - it is the finding
    """Something that must not be."""


WRONG: Final = (Violation, AssertionError, ProtocolError)
"""What is raised when something is found."""
