"""The model checker: every interleaving of the pure code of `paxoskv.paxos`, within bounds."""
