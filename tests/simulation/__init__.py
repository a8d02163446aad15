"""Deterministic simulation: the real client and the real acceptors in a simulated world.

One seed is one run, byte for byte. Read it in this order: :mod:`.clock`, :mod:`.trace`,
:mod:`.network`, :mod:`.disk`, :mod:`.machines` (the world); :mod:`.seams` (how the real code gets
into it); :mod:`.nemesis`, :mod:`.workload` (what happens there); :mod:`.observer`,
:mod:`.checks` (what must never happen); :mod:`.run` (one seed).

``python -m tests.simulation --seeds 1000`` runs many, ``--seed N --trace`` replays one.
"""
