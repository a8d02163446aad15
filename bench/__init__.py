"""Measurements of paxoskv: ``python -m bench``, and modules that are commands too."""
