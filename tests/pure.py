"""Operations on pure acceptors: no network, no clock, and the test decides who answers."""

from __future__ import annotations

from typing import Any

from paxoskv.paxos.acceptor import Acceptor
from paxoskv.paxos.messages import (
    Accept,
    Ballot,
    Commit,
    Instance,
    Prepare,
    Proposal,
    ProposalId,
    Request,
    answers,
)
from paxoskv.paxos.operation import Done, Operation, Pause, ResultT
from paxoskv.storage.memory import MemoryStore

MAX_STEPS = 50


class Acceptors:
    """A few acceptors with registers in memory, named by letters: A, B, C, …"""

    def __init__(self, names: str = "ABC", keep: int = 16) -> None:
        self.stores = {name: MemoryStore() for name in names}
        self.by_name = {name: Acceptor(store, keep) for name, store in self.stores.items()}
        self.requests: list[Request] = []  # all that were driven

    def drive(self, operation: Operation[ResultT], answering: str) -> ResultT:
        """Drive an operation to its end; these acceptors answer each request, in this order."""
        request: Request = operation.ask()
        for _ in range(MAX_STEPS):
            outcome = self._fan_out(operation, request, answering)
            if isinstance(outcome, Done):
                result: ResultT = outcome.result
                return result
            assert outcome is not None, f"a quorum answered a {request}, and there is no next step"
            request = operation.ask() if isinstance(outcome, Pause) else outcome
        raise AssertionError("it does not come to an end")

    def _fan_out(self, operation: Operation[Any], request: Request, answering: str) -> Any:
        self.requests.append(request)
        latest = None
        for name in answering:
            reply = self.by_name[name].handle(request)
            assert answers(reply, request)
            outcome = operation.receive(name.encode() * 16, reply)
            if outcome is not None and not isinstance(outcome, Pause):
                return outcome
            latest = outcome or latest
        return latest

    def vote(self, names: str, ver: int, value: bytes, n: int = 1, key: str = "foo") -> Proposal:
        """Let acceptors vote for a proposal of a proposer that is never heard of again."""
        who = bytes([n]) * 8 + ver.to_bytes(8, "big")
        proposal = Proposal(ProposalId(who, 1), value)
        for name in names:
            instance = Instance(key, ver)
            self.by_name[name].handle(Prepare(instance, Ballot(n, who)))
            self.by_name[name].handle(Accept(instance, Ballot(n, who), proposal))
        return proposal

    def commit(self, names: str, ver: int, proposal: Proposal, key: str = "foo") -> None:
        """Tell acceptors that a proposal is chosen, with its value."""
        for name in names:
            self.by_name[name].handle(Commit(Instance(key, ver), proposal.id, proposal))
