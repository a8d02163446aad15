"""Catching up, without a cluster; `test_durability` has it with processes."""

from __future__ import annotations

from paxoskv.catchup import _Learner
from paxoskv.identity import Address, new_cluster
from paxoskv.paxos.acceptor import Summary
from paxoskv.paxos.messages import Commit, Instance, Proposal, ProposalId
from paxoskv.paxos.operation import Latest
from paxoskv.server import Host
from paxoskv.storage.memory import MemoryStore


async def test_r8_who_was_away_learns_the_versions_between_as_well() -> None:
    versions = [Latest(ver, Proposal(ProposalId(b"m" * 16, ver + 1), b"x")) for ver in range(5)]

    class Others:
        async def history(self, key: str, above: int = -1) -> list[Latest]:
            assert key == "foo"
            return [version for version in versions if version.ver > above]

    store = MemoryStore()
    host = Host(new_cluster([Address("127.0.0.1", 1)])[0], store)
    host.acceptor.handle(Commit(Instance("foo", 0), versions[0].proposal.id, versions[0].proposal))
    learner = _Learner(host, Others())  # type: ignore[arg-type]
    assert await learner._learn("foo", versions[4]) == 4
    await learner._commit(0)
    assert store.summary("foo") == Summary(top=4, chosen=(0, 1, 2, 3, 4))
