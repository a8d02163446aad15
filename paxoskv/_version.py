"""The version of paxoskv, which the build reads from here, and what kind of build this is."""

from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec
from typing import Final

__version__ = "0.1.0"

_spec = find_spec(f"{__package__}.wire")

COMPILED: Final = _spec is not None and isinstance(_spec.loader, ExtensionFileLoader)
"""Whether the busiest modules are machine code; ``hatch_build.py`` says which."""
