"""What a compiled package (`hatch_build.py`) does not let tests do. It has the same source."""

from __future__ import annotations

import pytest

from paxoskv._version import COMPILED

changes_code = pytest.mark.skipif(
    COMPILED, reason="it replaces what compiled code never looks up: a constant or a method"
)
copies_objects = pytest.mark.skipif(
    COMPILED, reason="it copies objects by their attributes, and those of compiled classes resist"
)
