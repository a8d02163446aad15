"""What users get and catch, in their own hands: copied, pickled, looked at."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from paxoskv import Compacted, Entry, Unavailable, VersionTaken
from paxoskv.paxos.messages import Proposal, ProposalId

ENTRY = Entry("键😀", 3, {"a": [1, None]})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_entry_can_be_sent_elsewhere(protocol: int) -> None:
    for entry in (ENTRY, Entry("foo", 0, None, deleted=True)):
        assert pickle.loads(pickle.dumps(entry, protocol)) == entry


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_so_can_an_error_with_what_it_says(protocol: int) -> None:
    proposal = Proposal(ProposalId(b"p" * 16, 1), b"v")
    taken = pickle.loads(pickle.dumps(VersionTaken(ENTRY), protocol))
    compacted = pickle.loads(pickle.dumps(Compacted(ENTRY), protocol))
    unavailable = pickle.loads(pickle.dumps(Unavailable("why", ENTRY, proposal), protocol))
    assert (taken.entry, compacted.latest, unavailable.maybe) == (ENTRY, ENTRY, ENTRY)
    assert unavailable.proposal == proposal
    assert str(unavailable) == "why"


def test_an_entry_can_be_copied_looked_at_and_built_on() -> None:
    assert copy.copy(ENTRY) == copy.deepcopy(ENTRY) == ENTRY
    assert repr(ENTRY) == "Entry(key='键😀', ver=3, val={'a': [1, None]}, deleted=False)"
    assert list(inspect.signature(Entry).parameters) == ["key", "ver", "val", "deleted"]
    assert "tombstone" in (Entry.__doc__ or "")

    class Mine(Entry):
        pass

    assert Mine("foo", 0, 1).val == 1
    with pytest.raises(AttributeError):
        ENTRY.val = 5  # type: ignore[misc]
