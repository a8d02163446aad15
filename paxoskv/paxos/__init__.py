"""Paxos alone: no I/O, no clock, no randomness, no trio. Messages in, messages out.

Read it in this order: :mod:`.messages` (the words), :mod:`.acceptor` (rules R2, R3),
:mod:`.quorums` (what is chosen, and R4), :mod:`.proposer` (R4, R5), :mod:`.reader` (R6).
The server, the client, the tests and the model checker all run this same code.
"""
