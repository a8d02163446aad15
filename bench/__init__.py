"""Measurements of paxoskv. Each module is a command: ``python -m bench.duel``."""
