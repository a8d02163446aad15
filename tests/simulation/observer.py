"""One who sees all disks at once, and says when something happens that never may.

It judges by Lamport's definition alone: a proposal is chosen when a quorum has voted for it at
one ballot, and every such vote was on disk at some time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from paxoskv.paxos.acceptor import Register
from paxoskv.paxos.messages import FAST, Ballot, Instance, Proposal, Vote

from .disk import Disk, Save


class Chosen(NamedTuple):
    """What is chosen for an instance, and since when.

    Attributes:
        order: the moment, on the counter that orders everything that happens.
    """

    instance: Instance
    proposal: Proposal
    order: int


class Observer:
    """Watches what becomes durable.

    Args:
        n: how many acceptors the cluster has.
        order: gives the next number of all that happens.
        note: is told, for people, what was chosen.

    Attributes:
        chosen: what is chosen, by its instance.
        violations: what must not have happened, for people.
    """

    def __init__(
        self, n: int, order: Callable[[], int], note: Callable[[str, str, object], None]
    ) -> None:
        self.chosen: dict[Instance, Chosen] = {}
        self.violations: list[str] = []
        self._quorum = n // 2 + 1
        self._fast_quorum = -(-3 * n // 4)
        self._order = order
        self._note = note
        self._voters: dict[tuple[Instance, Vote], set[str]] = defaultdict(set)
        self._proposed: dict[tuple[Instance, Ballot], Proposal] = {}

    def watch(self, acceptor: str, save: Save) -> None:
        """Something is durable at an acceptor."""
        for ver, register in save.registers.items():
            self._see(acceptor, Instance(save.key, ver), register)

    def _see(self, acceptor: str, instance: Instance, register: Register) -> None:
        if register.chosen is not None:
            chosen = self.chosen.get(instance)
            if chosen is None or chosen.proposal != register.chosen:
                self._violated(f"{acceptor} believes that {register.chosen} is chosen", instance)
        elif register.voted is not None:
            self._count(acceptor, instance, register.voted)

    def _count(self, acceptor: str, instance: Instance, vote: Vote) -> None:
        if vote.ballot != FAST:
            other = self._proposed.setdefault((instance, vote.ballot), vote.proposal)
            if other != vote.proposal:
                self._violated(f"{other} and {vote.proposal} share {vote.ballot}", instance)
        voters = self._voters[instance, vote]
        voters.add(acceptor)
        if len(voters) < (self._fast_quorum if vote.ballot == FAST else self._quorum):
            return
        chosen = self.chosen.get(instance)
        if chosen is None:
            self.chosen[instance] = Chosen(instance, vote.proposal, self._order())
            self._note("observer", "sees chosen", f"{instance} {vote}")
        elif chosen.proposal != vote.proposal:
            self._violated(f"{vote} is chosen as well", instance)

    def _violated(self, what: str, instance: Instance) -> None:
        text = f"{what} for {instance}; chosen is {self.chosen.get(instance)}"
        self.violations.append(text)
        self._note("observer", "sees a violation", text)


def final_states(observer: Observer, disks: Mapping[str, Disk]) -> Iterator[str]:
    """What is wrong with the disks at the end: whatever was chosen is held by a quorum."""
    for instance, (_, proposal, _) in sorted(observer.chosen.items()):
        holders = 0
        for disk in disks.values():
            register = disk.durable().ledger(instance.key).register(instance.ver)
            summary = disk.durable().ledger(instance.key).summary
            dropped = instance.ver < summary.floor <= max(summary.chosen)
            voted = register.voted is not None and register.voted.proposal == proposal
            holders += dropped or voted or register.chosen == proposal
        if holders <= len(disks) // 2:
            yield f"{proposal} is chosen for {instance}, but only {holders} acceptors hold it"
