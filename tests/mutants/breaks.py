"""What may go wrong in this code, one break at a time, and what it would do in production.

Each break is the smallest change that breaks one of the rules R1 to R12, or a limit, in a way that
would look right, mostly: the kind of bug that a review lets pass.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Break(NamedTuple):
    """One rule, broken in one place.

    Attributes:
        name: of the break.
        rule: R1 … R12, or the part of the code that is broken.
        harm: what would go wrong in production.
        file: the file to break, in ``paxoskv``.
        old: what stands there, exactly once.
        new: what is to stand there.
        tests: arguments for pytest: the tests to run before the whole suite.
    """

    name: str
    rule: str
    harm: str
    file: str
    old: str
    new: str
    tests: str


PURE: Final = "tests/test_rules.py tests/test_fast.py tests/test_latest.py tests/test_compaction.py"
FAST: Final = "tests/test_fast.py"
LINES: Final = "tests/test_lines.py"
COMMITS: Final = "tests/test_commits.py"
STREAM: Final = "tests/test_stream.py"
CALLED: Final = "tests/test_calls_end.py"
WORD: Final = "tests/test_disk_before_word.py -k r1"
STORE: Final = (
    "tests/test_storage.py -k 'r1_only or r1_what_is or r1_the_fl or r1_after or r9 or dropped'"
)
DAMAGE: Final = "tests/test_storage.py -k wrong_length"
IDENTITY: Final = "tests/test_storage.py tests/test_directory.py -k r10"
CALLS: Final = "tests/test_latest_calls.py -k 'not r6 and not scan'"
CLIENT: Final = "tests/test_kv.py -k 'r11 or r12'"
CLUSTER: Final = "tests/test_cluster.py tests/test_kv.py -k 'r10 or stranger'"
LINK: Final = "tests/test_link.py tests/test_stream.py -k 'r7 or r12 or request or sent_again'"
SERVER: Final = "tests/test_server.py -k r12"
WIRE: Final = "tests/test_wire.py"
AWAY: Final = "tests/test_catchup.py tests/test_durability.py -k learns"

BREAKS: Final = (
    # --- R1: disk before word -----------------------------------------------------------
    Break(
        "reply-before-flush",
        "R1",
        "A vote is told, the power fails, the vote is gone, and another value is chosen.",
        "server.py",
        """\
        await self._durable()
        await sender.send(replies)
""",
        """\
        await sender.send(replies)
        await self._durable()
""",
        WORD,
    ),
    Break(
        "only-writers-wait",
        "R1",
        "A read shows another connection's vote, which a power cut then undoes.",
        "server.py",
        """\
                        replies = bytearray()
            if replies:
                await self._send(sender, replies, rests)
""",
        """\
                        replies = bytearray()
            if replies:
                kinds = {type(each).__name__ for each in requests}
                if kinds <= {"Read", "Find", "Scan"}:
                    await sender.send(replies)
                else:
                    await self._send(sender, replies, rests)
""",
        WORD,
    ),
    Break(
        "refusals-do-not-wait",
        "R1",
        "A refusal shows a vote that a power cut undoes; the proposer takes it for chosen.",
        "server.py",
        """\
                        replies = bytearray()
            if replies:
                await self._send(sender, replies, rests)
""",
        """\
                        replies = bytearray()
            if replies:
                # 3 is the kind of a refusal, after the heads of frame, run, replies and reply.
                if bytes(replies[4:9]) == b"\\x82\\x00\\x81\\x85\\x03":
                    await sender.send(replies)
                else:
                    await self._send(sender, replies, rests)
""",
        WORD,
    ),
    Break(
        "a-commit-that-follows-hurries-the-reply",
        "R1",
        "A read shows a vote that a power cut undoes, for a commit has arrived with it.",
        "server.py",
        "rests = rests or not all(isinstance(each, Commit | Turn) for each in requests)",
        "rests = not all(isinstance(each, Commit | Turn) for each in requests)",
        WORD,
    ),
    Break(
        "a-commit-in-the-frame-hurries-the-reply",
        "R1",
        "A read shows a vote that a power cut undoes, for a commit is in the same frame.",
        "server.py",
        "rests = rests or not all(isinstance(each, Commit | Turn) for each in requests)",
        "rests = rests or not any(isinstance(each, Commit) for each in requests)",
        WORD,
    ),
    Break(
        "commits-wait-for-ever-for-a-flush",
        "R8",
        "After a power cut in a quiet hour, no acceptor knows what was chosen before.",
        "server.py",
        "            with suppress(StoreError):  # which has been seen to already\n"
        "                await self._durable()\n",
        "",
        "tests/test_disk_before_word.py",
    ),
    Break(
        "any-flush-will-do",
        "R1",
        "A vote is told after the flush that was under way when it was saved, which missed it.",
        "server.py",
        "while self._failures == failures and self._store.flushed < saved:",
        "if self._failures == failures and self._store.flushed < saved:",
        WORD,
    ),
    Break(
        "answers-after-a-failed-flush",
        "R1",
        "The disk is full; what could not be written is shown to other connections as a fact.",
        "server.py",
        """\
        if self._mending.is_set():
            raise StoreError(self._failure)
        try:
""",
        """\
        try:
""",
        WORD,
    ),
    Break(
        "a-failed-flush-counts",
        "R1",
        "The disk is full, and a vote that was not written is told all the same.",
        "server.py",
        """\
        if self._failures != failures:
            raise StoreError(self._failure)
""",
        "",
        WORD,
    ),
    Break(
        "mended-without-reading-again",
        "R1",
        "After a failed flush the acceptor goes on with votes that exist in memory only.",
        "server.py",
        "                self._store.reload()\n",
        "                pass\n",
        WORD,
    ),
    Break(
        "saved-during-a-flush-counts-as-flushed",
        "R1",
        "A vote that was saved while a flush ran is told before the next flush takes it along.",
        "storage/disk.py",
        "self.flushed = max(self.flushed, saved)",
        "self.flushed = max(self.flushed, self.saved)",
        STORE,
    ),
    Break(
        "the-flush-does-not-sync",
        "R1",
        "All is well until the power fails: it never was on disk, only in the page cache.",
        "storage/disk.py",
        "self._db.flush_wal(sync=True)",
        "self._db.flush_wal(sync=False)",
        STORE,
    ),
    Break(
        "a-promise-is-not-flushed",
        "R1",
        "A promise is told, forgotten in a power cut, and a lower ballot gets its vote.",
        "storage/disk.py",
        "            self.saved += bool(registers or dropped or changed)\n",
        "            self.saved += any(each.sight for each in registers.values())\n",
        STORE,
    ),
    Break(
        "answers-after-a-failed-write",
        "R1",
        "RocksDB shows a batch of which nobody knows whether the disk has it.",
        "storage/disk.py",
        "            self._failure = error\n            raise\n",
        "            raise\n",
        STORE,
    ),
    Break(
        "damage-passes-for-a-torn-end",
        "R1",
        "A flipped bit in a log drops all promises after it, unsaid.",
        "storage/logs.py",
        "            if kind in {_FULL, _FIRST}:\n                return True\n",
        "            if kind in {_FULL, _FIRST}:\n                return False\n",
        DAMAGE,
    ),
    # --- R2: promise --------------------------------------------------------------------
    Break(
        "promises-a-lower-ballot",
        "R2",
        "Two proposers hold promises at once, and both get a free choice.",
        "paxos/acceptor.py",
        """\
            if ballot < promised:
                return register, Refusal(promised, voted, top)
            return Register(ballot, voted), Promise(voted, top)""",
        """\
            return Register(max(ballot, promised), voted), Promise(voted, top)""",
        PURE,
    ),
    Break(
        "a-promise-hides-the-vote",
        "R2",
        "A proposer never learns of the value that was chosen, and chooses its own beside it.",
        "paxos/acceptor.py",
        "return Register(ballot, voted), Promise(voted, top)",
        "return Register(ballot, voted), Promise(None, top)",
        PURE,
    ),
    Break(
        "a-promise-is-not-kept",
        "R2",
        "A promise is told and forgotten at once; a lower ballot gets a vote after it.",
        "paxos/acceptor.py",
        "        if after != before:\n",
        "        if after.voted != before.voted:\n",
        PURE,
    ),
    # --- R3: vote -----------------------------------------------------------------------
    Break(
        "votes-without-looking-at-the-promise",
        "R3",
        "A slow proposer's old ballot still gets votes after a newer one has chosen.",
        "paxos/acceptor.py",
        """\
            if ballot < promised or _taken(voted, vote):
                return register, Refusal(promised, voted, top)
""",
        """\
            if _taken(voted, vote):
                return register, Refusal(promised, voted, top)
            ballot = max(ballot, promised)
""",
        PURE,
    ),
    Break(
        "votes-twice-at-a-ballot",
        "R3",
        "At the shared ballot 0, two proposals both get a fast quorum.",
        "paxos/acceptor.py",
        "if ballot < promised or _taken(voted, vote):",
        "if ballot < promised:",
        PURE,
    ),
    Break(
        "an-equal-value-has-the-vote-already",
        "R3",
        "Two puts of equal values both get the vote for ballot 0, and both believe they won.",
        "paxos/acceptor.py",
        "voted.ballot == vote.ballot and voted != vote",
        "voted.ballot == vote.ballot and voted.proposal.value != vote.proposal.value",
        PURE,
    ),
    Break(
        "what-is-chosen-is-prepared-anew",
        "R3",
        "An acceptor that has dropped its vote for what is chosen promises as if it were blank.",
        "paxos/acceptor.py",
        "    if chosen is not None:\n",
        "    if chosen is not None and isinstance(request, Read):\n",
        PURE,
    ),
    # --- R4: choose ---------------------------------------------------------------------
    Break(
        "the-lowest-voted-ballot-obliges",
        "R4",
        "An old vote that lost long ago replaces what was chosen after it.",
        "paxos/quorums.py",
        "highest = max((vote.ballot for",
        "highest = min((vote.ballot for",
        PURE,
    ),
    Break(
        "own-value-though-one-was-voted",
        "R4",
        "Whoever comes second overwrites what the first was told to be written.",
        "paxos/proposer.py",
        "        if bound is not None:\n            return self._begin",
        "        if bound is not None and self.own is None:\n            return self._begin",
        PURE,
    ),
    Break(
        "a-fast-choice-is-overlooked",
        "R4",
        "What a fast quorum chose is undone, because a part of it did not look like a quorum.",
        "paxos/quorums.py",
        "needed = len(promises) + self.fast_quorum - self.n",
        "needed = self.fast_quorum",
        PURE,
    ),
    Break(
        "a-quorum-of-one",
        "R4",
        "A single vote passes for a choice, and a partition gives each side its own.",
        "paxos/quorums.py",
        "return self.fast_quorum if ballot == FAST else self.quorum",
        "return 1",
        PURE,
    ),
    Break(
        "votes-are-counted-whatever-they-are-for",
        "R4",
        "A vote for each of two proposals passes for two votes for the first.",
        "paxos/quorums.py",
        "seen.count(first := seen[0]) == len(seen):",
        "(first := seen[0]):",
        PURE,
    ),
    Break(
        "a-majority-at-ballot-0",
        "R4",
        "A majority passes for a fast quorum; the next proposer sees too little of it to keep it.",
        "paxos/quorums.py",
        "return self.fast_quorum if ballot == FAST else self.quorum",
        "return self.quorum",
        PURE,
    ),
    Break(
        "votes-at-two-ballots-add-up",
        "R4",
        "Two votes at two ballots pass for a choice, and a ballot between them wins.",
        "paxos/quorums.py",
        "for v in votes if v.ballot == ballot and v.proposal.id == id_]",
        "for v in votes if v.proposal.id == id_]",
        PURE,
    ),
    Break(
        "a-promise-that-comes-twice-counts-twice",
        "R4",
        "A frame is repeated after a reconnect, and one acceptor is taken for a quorum.",
        "paxos/proposer.py",
        "self._promises[acceptor] = voted",
        "self._promises[acceptor + bytes([len(self._promises)])] = voted",
        PURE,
    ),
    # --- R5: one ballot, one proposal ---------------------------------------------------
    Break(
        "a-ballot-is-given-twice",
        "R5",
        "An operation meets low ballots after high ones, and sends two proposals at one ballot.",
        "paxos/proposer.py",
        "n = max(self._n, seen.n) + 1",
        "n = seen.n + 1",
        PURE,
    ),
    Break(
        "one-id-for-all-calls-of-a-client",
        "R5",
        "A cancelled call and the next send two values as the same proposal at the same ballot.",
        "client.py",
        "return Ballots(self._ids.new())",
        'return Ballots(id(self).to_bytes(16, "big"))',
        "tests/test_kv.py -k r5",
    ),
    Break(
        "the-same-id-after-a-restart",
        "R5",
        "A client that was restarted reuses its ballots, and its votes are added to others.",
        "client.py",
        "return Ballots(self._ids.new())",
        'return Ballots(b"the id of my pc.")',
        CALLS,
    ),
    Break(
        "all-proposals-of-a-call-have-one-id",
        "R5",
        "A commit for the first attempt of an update marks the vote for its second as chosen.",
        "paxos/proposer.py",
        "self._serial += 1",
        "self._serial = 1",
        PURE,
    ),
    # --- R6: read -----------------------------------------------------------------------
    Break(
        "a-minority-is-believed",
        "R6",
        "A get returns a value that is then never chosen.",
        "paxos/reader.py",
        "chosen = self._quorums.chosen(votes)",
        "chosen = next((vote.proposal for vote in votes.values()), None)",
        PURE,
    ),
    Break(
        "one-blank-reply-is-enough",
        "R6",
        "A get says that nothing is there, of a version that was just written.",
        "paxos/reader.py",
        "if chosen is not None or len(self._seen) - len(votes) >= self._quorums.quorum:",
        "if chosen is not None or len(self._seen) > len(votes):",
        PURE,
    ),
    Break(
        "a-committed-lower-version-is-returned",
        "R6",
        "A get returns what was written before, for the newest commit has not arrived yet.",
        "paxos/reader.py",
        "self._highest = highest = max([ver for ver, _, _ in seen])",
        "known = [ver for ver, sight, _ in seen if isinstance(sight, Proposal)]\n"
        "        self._highest = highest = max(known or [ver for ver, _, _ in seen])",
        PURE,
    ),
    Break(
        "replies-about-other-versions-count",
        "R6",
        "The value of a lower version is returned, and remembered, as that of the highest.",
        "paxos/reader.py",
        "for ver, sight, _ in seen if ver == highest and sight is not None]",
        "for _, sight, _ in seen if sight is not None]",
        PURE,
    ),
    Break(
        "the-look-up-below-asks-not-afresh",
        "R6",
        "What acceptors said of a lower version at another moment hides what was written since.",
        "paxos/reader.py",
        '        """Ask a quorum afresh."""\n        self._seen = {}\n',
        "        self._seen = {a: found for a, found in self._seen.items() if found.ver < below}\n",
        PURE,
    ),
    Break(
        "one-blank-reply-at-the-top-is-enough",
        "R6",
        "A get falls below the version that was just written to a bare majority.",
        "paxos/reader.py",
        "elif len(self._seen) - len(sights) >= self._quorums.quorum:",
        "elif len(self._seen) > len(sights):",
        PURE,
    ),
    Break(
        "nothing-at-the-top-is-nothing-at-all",
        "R6",
        "One proposal that failed hides a key that has had a value for years.",
        "paxos/reader.py",
        "            case None:\n                return self._look(below=self._highest)\n",
        "            case None:\n                return Done(None)\n",
        PURE,
    ),
    Break(
        "a-get-falls-below-a-tombstone",
        "R6",
        "What was deleted is back.",
        "paxos/reader.py",
        "        if chosen is not None:\n            return Done(Latest(highest, chosen))\n",
        "        if chosen is not None and chosen.value is None:\n"
        "            return self._look(below=self._highest)\n"
        "        if chosen is not None:\n            return Done(Latest(highest, chosen))\n",
        PURE,
    ),
    Break(
        "a-page-is-cut-at-the-largest-key",
        "R6",
        "A scan passes over keys that the acceptor with the shorter page did not get to.",
        "paxos/scanner.py",
        "after = min((page",
        "after = max((page",
        PURE,
    ),
    Break(
        "keys-beyond-the-cut-are-given",
        "R6",
        "A scan gives keys twice, once here and once on the next page.",
        "paxos/scanner.py",
        "if after is None or key <= after:",
        "if key:",
        PURE,
    ),
    Break(
        "keys-in-the-balance-are-left-out",
        "R6",
        "A scan passes over what was just written.",
        "paxos/scanner.py",
        "                unsettled.append(key)\n",
        "                continue\n",
        PURE,
    ),
    # --- R7: append ---------------------------------------------------------------------
    Break(
        "the-latest-top-counts",
        "R7",
        "A put is overtaken by its own vote, and looks again and again.",
        "paxos/proposer.py",
        "        if known is None or top < known:\n",
        "        if known is None or top != known:\n",
        PURE,
    ),
    Break(
        "one-low-top-is-enough",
        "R7",
        "A put is hidden behind a set with a gap that was acknowledged before it began.",
        "paxos/proposer.py",
        "len([0 for top in told if top <= ver]) >= self._quorum",
        "len([0 for top in told if top <= ver]) >= 1",
        PURE,
    ),
    Break(
        "a-put-ignores-top",
        "R7",
        "The same, for a client that remembers an old latest version.",
        "paxos/proposer.py",
        "return self._tops is None or self._tops.allow(self.instance.ver)",
        "return True",
        PURE,
    ),
    Break(
        "the-tops-of-an-earlier-call-count",
        "R7",
        "A put trusts what it was told before the set with a gap was made.",
        "client.py",
        "            tops = Tops(quorums)\n",
        '            tops = vars(self).setdefault("tops", {}).setdefault(key, Tops(quorums))\n',
        CALLS,
    ),
    Break(
        "only-what-is-committed-raises-the-top",
        "R7",
        "A put does not see the top of what was chosen but not committed yet.",
        "paxos/acceptor.py",
        "if after.voted is not None and ver > summary.top:",
        "if after.chosen is not None and ver > summary.top:",
        PURE,
    ),
    Break(
        "a-commit-lowers-the-top",
        "R7",
        "A late commit of an old version makes puts go below a newer one.",
        "paxos/acceptor.py",
        "return Summary(max(summary.top, ver), floor, kept)",
        "return Summary(ver, floor, kept)",
        PURE,
    ),
    Break(
        "what-is-left-behind-is-not-finished",
        "R7",
        "Two writers that died at high versions block every put to the key for ever.",
        "paxos/reader.py",
        "        if self._tops is not None and votes:\n",
        "        if self._tops is None and self._tops:\n",
        PURE,
    ),
    Break(
        "goes-on-though-its-own-may-be-chosen",
        "R7",
        "A put loses a duel, writes the next version too, and an increment counts twice.",
        "paxos/appender.py",
        "if self._finder is None and self._proposer.overtaken:",
        "if self._finder is None and (self._proposer.overtaken or self._proposer.maybe):",
        PURE,
    ),
    Break(
        "goes-on-when-its-version-was-dropped",
        "R7",
        "A put that was chosen, and compacted before it heard of it, is written once more.",
        "paxos/appender.py",
        "return Done(latest if self.maybe is None else Doubtful())",
        "return Done(latest)",
        PURE,
    ),
    Break(
        "an-equal-value-is-its-own",
        "R7",
        "Two clients increment 1 to 2, and both are told that they did.",
        "client.py",
        "if latest is not None and latest.proposal.id == own.id:",
        "if latest is not None and latest.proposal.value == own.value:",
        CALLS,
    ),
    Break(
        "an-update-computes-once",
        "R7",
        "An update that lost a version to another writer overwrites what that one wrote.",
        "kv.py",
        """\
            return encode_value(function(None if value is None else decode_value(value)))
""",
        """\
            made = vars(compute).get("made")
            made = made or encode_value(function(None if value is None else decode_value(value)))
            vars(compute)["made"] = made
            return made
""",
        CALLS,
    ),
    Break(
        "a-delete-believes-its-memory",
        "R7",
        "A delete says that there is nothing to delete, of what another client has put since.",
        "client.py",
        "                    if looked_up:\n                        return None\n",
        "                    return None\n",
        CALLS,
    ),
    Break(
        "what-may-have-been-written-is-not-said",
        "R7",
        "An error looks as if nothing was written; the caller writes again, and it is there twice.",
        "paxos/proposer.py",
        "return self.own if self._sent_classic or (self._sent_fast and not self._dead) else None",
        "return None",
        CALLS,
    ),
    Break(
        "an-equal-value-settles",
        "R7",
        "Settle says that a write went through which lost to another of the same value.",
        "kv.py",
        "return decision.id == error.proposal.id",
        "return decision.value == error.proposal.value",
        CALLS,
    ),
    # --- R8: commit is a hint -----------------------------------------------------------
    Break(
        "a-commit-marks-any-vote",
        "R8",
        "A commit for another proposal marks what lost as chosen.",
        "paxos/acceptor.py",
        "its_own = voted is not None and voted.proposal.id == id_",
        "its_own = voted is not None",
        PURE,
    ),
    Break(
        "a-commit-marks-by-proposer-alone",
        "R8",
        "A commit marks another proposal of the same client as chosen.",
        "paxos/acceptor.py",
        "its_own = voted is not None and voted.proposal.id == id_",
        "its_own = voted is not None and voted.proposal.id.proposer == id_.proposer",
        PURE,
    ),
    Break(
        "a-commit-replaces-what-is-chosen",
        "R8",
        "A broken client overwrites what everybody has read.",
        "paxos/acceptor.py",
        """\
            if known is None or known.id != id_:
                raise ProtocolError(f"another proposal is chosen for {key!r} version {ver}")
            return summary
""",
        "            if (known is None or known.id != id_) and proposal is not None:\n"
        "                changed[ver] = Register(chosen=proposal)\n"
        "                self._store.save(key, summary, changed)\n"
        "            return summary\n",
        PURE,
    ),
    Break(
        "commits-without-a-quorum",
        "R8",
        "A cancelled write is told to be chosen, with one vote or none; another is chosen as well.",
        "paxos/proposer.py",
        "        self._accept = Accept(self.instance, self._ballot, proposal, append)\n",
        "        self._accept = Accept(self.instance, self._ballot, proposal, append)\n"
        "        self.commit = Commit(self.instance, proposal.id, None)\n",
        PURE,
    ),
    Break(
        "what-it-missed-is-forgotten",
        "R8",
        "An acceptor that had no vote for what was chosen never learns it.",
        "paxos/acceptor.py",
        "            self._miss(key)\n",
        "",
        PURE,
    ),
    # --- R9: compaction -----------------------------------------------------------------
    Break(
        "compaction-forgets",
        "R9",
        "A dropped version looks new: a set writes it a second time, with another value.",
        "paxos/acceptor.py",
        "        if ver < summary.floor:\n            reply",
        "        if summary.floor < 0:\n            reply",
        PURE,
    ),
    Break(
        "what-is-kept-is-said-to-be-dropped",
        "R9",
        "The oldest kept version cannot be read, and with one kept, not the latest either.",
        "paxos/acceptor.py",
        "        if ver < summary.floor:\n            reply",
        "        if ver <= summary.floor:\n            reply",
        PURE,
    ),
    Break(
        "the-floor-is-too-high",
        "R9",
        "The first commit of a key drops votes and promises below it, which nobody has finished.",
        "paxos/acceptor.py",
        "floor = kept[0] if len(chosen) > self._keep else summary.floor",
        "floor = max(kept[0], summary.floor)",
        PURE,
    ),
    Break(
        "a-look-below-the-floor-finds-nothing",
        "R9",
        "Where versions were dropped, a reader is told that nothing was ever there.",
        "paxos/acceptor.py",
        "        if below <= summary.floor and summary.chosen:\n",
        "        if below < 0 and summary.chosen:\n",
        PURE,
    ),
    Break(
        "a-proposer-passes-over-one-compacted",
        "R9",
        "A version that one acceptor has dropped is chosen anew by those that never heard of it.",
        "paxos/proposer.py",
        "                return self._dropped(acceptor, reply, again)\n",
        "                self._refused = True\n",
        PURE,
    ),
    Break(
        "a-reader-passes-over-one-compacted",
        "R9",
        "A get says that nothing is there, of a version that had a value and was dropped.",
        "paxos/reader.py",
        "            case Compacted():\n                return Done(reply)\n",
        "            case Compacted():\n                self._seen[acceptor] = None\n",
        PURE,
    ),
    Break(
        "what-one-knows-as-latest-is-the-latest",
        "R9",
        "A get returns the latest version that one acceptor knows of, and others know a newer one.",
        "paxos/reader.py",
        "return self._look(below=END) if self._start == END else Done(reply)",
        "return Done(Latest(reply.latest, reply.proposal)) if self._start == END else Done(reply)",
        PURE,
    ),
    Break(
        "a-tombstone-is-not-kept",
        "R9",
        "What was deleted looks as if it had never been decided, and is decided again.",
        "paxos/acceptor.py",
        "if proposal is not None and not its_own and ver >= floor:",
        "if proposal is not None and proposal.value is not None and not its_own and ver >= floor:",
        PURE,
    ),
    Break(
        "dropped-before-the-floor-is-written",
        "R9",
        "The power fails between the two, and the dropped versions look new for ever.",
        "storage/disk.py",
        "changes.batch.delete(",
        "self._db.delete(",
        STORE,
    ),
    Break(
        "the-oldest-kept-version-is-dropped-too",
        "R9",
        "An acceptor says that it knows a version to be chosen, and has nothing to show for it.",
        "storage/disk.py",
        "takewhile(lambda name: name < end, names)",
        "takewhile(lambda name: name <= end, names)",
        STORE,
    ),
    # --- R10: identity ------------------------------------------------------------------
    Break(
        "adopts-the-first-that-greets",
        "R10",
        "An acceptor of a cluster that was replaced greets first, and no call finds the new one.",
        "cluster.py",
        "if (enough or len(self._given) == 1) and self._is_meant(candidate):",
        "if candidate.greeted:",
        CLUSTER,
    ),
    Break(
        "adopts-the-first-quorum",
        "R10",
        "A client that was given addresses of two clusters writes to the wrong one, now and then.",
        "cluster.py",
        "if (enough or len(self._given) == 1) and self._is_meant(candidate):",
        "if enough or len(self._given) == 1:",
        CLUSTER,
    ),
    Break(
        "votes-are-counted-by-address",
        "R10",
        "An acceptor that answers at two addresses is a quorum of two.",
        "cluster.py",
        "        if expected != acceptor:\n",
        "        if not acceptor:\n",
        CLUSTER,
    ),
    Break(
        "others-may-have-other-members",
        "R10",
        "Two acceptors disagree on what a quorum is, and the first that greets decides.",
        "cluster.py",
        "elif {member.id for member in identity.members} != candidate.members.keys():",
        "elif not identity.members:",
        CLUSTER,
    ),
    Break(
        "a-lost-store-is-made-anew",
        "R10",
        "An acceptor that lost its disk comes back blank under its old name, and votes again.",
        "storage/disk.py",
        """\
                raise DirectoryError(
                    f"{path} has no store any more, and its acceptor has forgotten its promises; "
                    "make a new cluster with `paxoskv init`"
                )
""",
        """\
                made = _options()
                made.create_if_missing(True)
                db = Rdict(str(path), made, {"default": made})
                db.put(_IDENTITY, self._owner)
                db.put(_COUNT, cbor2.dumps(0))
                db.close()
""",
        IDENTITY,
    ),
    Break(
        "the-store-of-another-is-taken",
        "R10",
        "Two disks are swapped, and each acceptor answers with the promises of the other.",
        "storage/disk.py",
        "        if owner != self._owner:\n",
        "        if not self._owner:\n",
        IDENTITY,
    ),
    Break(
        "the-store-of-other-members-is-taken",
        "R10",
        "An edited acceptor.toml makes the cluster smaller, and quorums do not meet any more.",
        "storage/disk.py",
        "identity.acceptor, members])",
        "identity.acceptor])",
        IDENTITY,
    ),
    Break(
        "served-from-memory-and-again",
        "R10",
        "An acceptor that promised in memory is started again, and has forgotten it.",
        "storage/directory.py",
        "if (path / MEMORY_MARK).exists():",
        "if not path.exists():",
        IDENTITY,
    ),
    # --- R11: retry is safe -------------------------------------------------------------
    Break(
        "only-its-own-proposal-is-a-success",
        "R11",
        "A set timed out after it was chosen; the same set again says that another was faster.",
        "kv.py",
        "isinstance(decision, Proposal) and decision.value == value",
        "isinstance(decision, Proposal) and decision.value is value",
        CLIENT,
    ),
    Break(
        "equal-dicts-are-two-values",
        "R11",
        "The same set again, of a dict that was built in another order, says that it is taken.",
        "values.py",
        "cbor2.dumps(value, canonical=True)",
        "cbor2.dumps(value)",
        "tests/test_values.py",
    ),
    # --- R12: bounded -------------------------------------------------------------------
    Break(
        "a-silent-acceptor-is-owed-everything",
        "R12",
        "One acceptor hangs, and the client keeps every frame for it until memory is full.",
        "link.py",
        "            len(exchanges) >= MAX_UNANSWERED_FRAMES\n",
        "            len(exchanges) < 0\n",
        LINK,
    ),
    Break(
        "no-bytes-are-too-many-to-owe",
        "R12",
        "The same, in few frames of large values.",
        "link.py",
        ">= MAX_UNANSWERED_BYTES",
        "< 0",
        LINK,
    ),
    Break(
        "a-decided-round-waits-for-the-last",
        "R12",
        "Each call leaves a task behind that waits for the acceptor that is away.",
        "rounds.py",
        "        if not round_.jobs:\n            round_.over.set()\n",
        "",
        LINK,
    ),
    Break(
        "rounds-without-a-limit",
        "R12",
        "While no quorum answers, every call adds a fan-out of tasks and frames.",
        "rounds.py",
        "if self._launching or self._open >= MAX_OPEN_ROUNDS:",
        "if self._launching:",
        CLIENT,
    ),
    Break(
        "commits-pile-up",
        "R12",
        "While the acceptors are away, what a busy client would tell them fills its memory.",
        "commits.py",
        "        if len(self._waiting) == MAX_PENDING_COMMITS:\n",
        "        if len(self._waiting) == -1:\n",
        COMMITS,
    ),
    Break(
        "remembers-every-key",
        "R12",
        "A client that writes to ever new keys grows until it is killed.",
        "remembered.py",
        "while self._size > MAX_REMEMBERED_BYTES:",
        "while self._size < 0:",
        PURE,
    ),
    Break(
        "notes-every-key-it-missed",
        "R12",
        "A stranger sends commits for keys that nobody has, and the acceptor keeps them all.",
        "paxos/acceptor.py",
        "if len(self.missed) < MAX_MISSED_KEYS:",
        "if len(self.missed) >= 0:",
        PURE,
    ),
    Break(
        "a-page-of-any-size",
        "R12",
        "A scan of a thousand large values makes a frame that no client takes.",
        "paxos/acceptor.py",
        "if len(items) == MAX_PAGE_KEYS or size >= MAX_PAGE_BYTES:",
        "if len(items) == MAX_PAGE_KEYS:",
        PURE,
    ),
    Break(
        "any-number-of-connections",
        "R12",
        "Clients that never close take all the file descriptors.",
        "server.py",
        "if self._connections >= MAX_CONNECTIONS:",
        "if self._connections < 0:",
        SERVER,
    ),
    Break(
        "unfinished-frames-of-any-size",
        "R12",
        "A thousand strangers send half a frame each, and the acceptor is out of memory.",
        "server.py",
        "if self._unfinished > MAX_UNFINISHED_BYTES:",
        "if self._unfinished < 0:",
        SERVER,
    ),
    # --- The wire and the link ----------------------------------------------------------
    Break(
        "a-frame-of-any-size",
        "wire",
        "Four bytes from a stranger make an acceptor collect four gigabytes.",
        "wire.py",
        "            if length > self._limit:\n",
        "            if length < 0:\n",
        WIRE,
    ),
    Break(
        "a-vote-is-told-with-the-ballots-owner",
        "wire",
        "A finished proposal changes its id on the way, and its writer believes that it lost.",
        "wire.py",
        "return (n, proposer, owner, serial, value, append)",
        "return (n, proposer, proposer, serial, value, append)",
        WIRE,
    ),
    Break(
        "ballot-0-may-be-prepared",
        "wire",
        "A stranger's prepare at ballot 0 gets a promise that promises nothing.",
        "wire.py",
        "    if ballot == FAST:\n",
        "    if n is None:\n",
        WIRE,
    ),
    Break(
        "true-is-a-version",
        "wire",
        "A stranger's true passes for 1, and what is stored is not what is compared.",
        "wire.py",
        "if type(item) is int and low <= item <= high:",
        "if isinstance(item, int) and low <= item <= high:",
        WIRE,
    ),
    Break(
        "a-reply-goes-to-the-oldest-request",
        "client",
        "A reply that comes out of order is taken for the answer to another request.",
        "link.py",
        "        start = first - self.first\n",
        "        start = min(self._missing, default=0)\n",
        LINK,
    ),
    Break(
        "any-reply-answers",
        "client",
        "A broken acceptor's reply reaches an operation that cannot take it, and ends the client.",
        "link.py",
        "if not answers(reply, request):",
        "if reply is None:",
        LINK,
    ),
    Break(
        "request-ids-repeat",
        "client",
        "Two frames under way share their ids, and a late reply answers the wrong one.",
        "link.py",
        "                self._next_id += exchange.count\n",
        "",
        LINK,
    ),
    Break(
        "what-was-lost-with-the-connection-is-not-sent-again",
        "client",
        "A connection breaks, and a call waits for an answer that cannot come any more.",
        "link.py",
        "            if exchange.answered:\n                return\n",
        "            return\n",
        LINK,
    ),
    # --- Catching up --------------------------------------------------------------------
    Break(
        "only-the-latest-is-learned",
        "R8",
        "An acceptor that was away does not know the versions between, which the others keep.",
        "catchup.py",
        "if latest.ver > known + 1:",
        "if latest.ver < 0:",
        AWAY,
    ),
    Break(
        "a-long-sleep-goes-unnoticed",
        "R8",
        "An acceptor that was stopped for an hour learns what it missed ten minutes later.",
        "catchup.py",
        "away = now - awake > AWAY or not client.connected",
        "away = False",
        AWAY,
    ),
    # --- Ballot 0 -------------------------------------------------------------------------
    Break(
        "two-votes-at-ballot-0",
        "R3",
        "An acceptor votes for two proposals at the ballot that nobody owns; both are chosen.",
        "paxos/acceptor.py",
        "return voted is not None and voted.ballot == vote.ballot and voted != vote",
        "return voted is not None and voted.ballot == vote.ballot != FAST and voted != vote",
        f"{FAST} tests/test_rules.py",
    ),
    Break(
        "any-vote-at-ballot-0-obliges",
        "R4",
        "Of two that raced, the one that lost is finished, and the one that won is undone.",
        "paxos/quorums.py",
        "candidates = [each for each in candidates if tally[each.id] >= needed]",
        "candidates = candidates[:1]",
        PURE,
    ),
    Break(
        "only-unanimity-obliges",
        "R4",
        "With four acceptors and one dissenter, what was chosen in one round trip is undone.",
        "paxos/quorums.py",
        "if tally[each.id] >= needed]",
        "if tally[each.id] == len(promises)]",
        PURE,
    ),
    Break(
        "ballot-0-without-a-fast-quorum-in-reach",
        "fast",
        "With one acceptor away, each write waits for it before it begins in earnest.",
        "client.py",
        "return self._fast and self.rounds.prompt >= self._cluster.quorums.fast_quorum",
        "return self._fast",
        FAST,
    ),
    Break(
        "ballot-0-though-it-is-switched-off",
        "fast",
        "The switch does nothing.",
        "client.py",
        "return self._fast and self.rounds.prompt",
        "return self.rounds.prompt",
        CALLS,
    ),
    Break(
        "an-append-gets-a-vote-below-the-top",
        "R7",
        "A put returns a version older than a set with a gap that was done before it began.",
        "paxos/acceptor.py",
        "            if append and top > ver and vote != voted:\n",
        "            if append and top > ver + 1_000 and vote != voted:\n",
        FAST,
    ),
    Break(
        "an-append-is-not-marked",
        "R7",
        "The same; a client that remembers an old version writes in the past.",
        "paxos/proposer.py",
        "append = self._ballot == FAST and not self._allowed",
        "append = False",
        FAST,
    ),
    Break(
        "a-vote-forgets-that-it-was-for-an-append",
        "R7",
        "A look-up writes for a put that has given up, and written its value elsewhere.",
        "paxos/acceptor.py",
        "            vote = Vote(ballot, proposal, append)\n",
        "            vote = Vote(ballot, proposal)\n",
        FAST,
    ),
    Break(
        "an-append-of-another-is-finished",
        "R7",
        "The same.",
        "paxos/reader.py",
        "if isinstance(sight, Vote) and not sight.append]",
        "if isinstance(sight, Vote)]",
        FAST,
    ),
    Break(
        "given-up-too-early",
        "R7",
        "A put goes on to the next version, and a reader finishes it at this one: it counts twice.",
        "paxos/proposer.py",
        "return self._quorums.n - len(self._never) < self._quorums.obliging",
        "return self._quorums.n - len(self._never) <= self._quorums.obliging",
        FAST,
    ),
    Break(
        "dropped-is-taken-for-never-voted",
        "R7",
        "A request that was sent again after a reconnect had its vote before: it counts twice.",
        "paxos/proposer.py",
        "if self._ballot == FAST and not again:",
        "if self._ballot == FAST:",
        FAST,
    ),
    Break(
        "a-batch-sent-again-looks-new",
        "R7",
        "The same.",
        "link.py",
        "            again = exchange.again\n",
        "",
        LINK,
    ),
    Break(
        "what-others-finished-is-an-append",
        "R7",
        "Two votes of five were enough for others to finish it, below what was chosen before.",
        "paxos/appender.py",
        "if decision.id == self._own.id and not self._tops.allow(self.instance.ver):",
        "if decision.id == self._own.id and self._tops is None:",
        FAST,
    ),
    # --- Waiting in line --------------------------------------------------------------------
    Break(
        "a-mere-vote-is-told-in-line",
        "R3",
        "Who has the turn takes a mere vote for what is chosen, and writes on top of it.",
        "paxos/acceptor.py",
        "        if not summary.chosen:\n            return Told(NO_TOP, None)\n",
        "        voted = self._store.register(Instance(key, summary.top)).voted\n"
        "        if voted is not None:\n            return Told(summary.top, voted.proposal)\n"
        "        if not summary.chosen:\n            return Told(NO_TOP, None)\n",
        LINES,
    ),
    Break(
        "a-turn-never-ends",
        "R12",
        "A client that died with the turn blocks the line.",
        "lines.py",
        "with trio.move_on_at(line.until):",
        "with trio.CancelScope():",
        LINES,
    ),
    Break(
        "a-turn-is-lost-with-who-is-cancelled",
        "R12",
        "Those behind wait until the time of a turn is up that nobody has.",
        "lines.py",
        "            elif not awaited and line.waiting:\n                line.next()\n",
        "",
        LINES,
    ),
    Break(
        "lines-without-a-limit",
        "R12",
        "A stranger fills the memory of an acceptor with places in line.",
        "lines.py",
        "        if len(line.waiting) >= MAX_IN_LINE:\n            return None\n",
        "",
        LINES,
    ),
    Break(
        "who-waits-in-line-holds-up-the-connection",
        "lines",
        "A client that waits for one key cannot do anything else.",
        "server.py",
        "nursery.start_soon(self._give_turn, sender, first, turn, place)",
        "await self._give_turn(sender, first, turn, place)",
        LINES,
    ),
    # --- Commits on their way, and calls without scopes of their own ---------------------------
    Break(
        "what-was-voted-for-and-is-chosen-is-not-known",
        "R3",
        "An acceptor that was told what is chosen votes for something else there.",
        "paxos/acceptor.py",
        "    if ver > summary.top or register.chosen is not None or not summary.knows(ver):\n",
        "    if summary is not None:\n",
        PURE,
    ),
    Break(
        "an-accept-commits-its-own-version",
        "R8",
        "What is chosen for one version is taken for what is chosen for the next.",
        "paxos/acceptor.py",
        "self._learn(Instance(key, ver - 1), request.after, None, stored, changed)",
        "self._learn(Instance(key, ver), request.after, None, stored, changed)",
        "tests/test_compaction.py",
    ),
    Break(
        "what-an-accept-commits-is-lost-when-it-is-refused",
        "R8",
        "Slower reads, and old versions that stay for ever.",
        "paxos/acceptor.py",
        "        if changed or summary is not stored:\n",
        "        if changed:\n",
        "tests/test_compaction.py",
    ),
    Break(
        "a-commit-rides-on-any-later-version",
        "R8",
        "A proposal is marked as chosen for a version where it was never proposed.",
        "commits.py",
        "self.take(Instance(key, ver - 1))",
        "self.take(Instance(key, max(0, ver - 2)))",
        COMMITS,
    ),
    Break(
        "who-is-told-at-once-is-the-only-one",
        "R8",
        "After a burst of writes two of three acceptors keep old versions for ever.",
        "commits.py",
        "            self.add(commit, COMMIT_PATIENCE)\n",
        "",
        COMMITS,
    ),
    Break(
        "a-frame-begins-in-the-middle-of-another",
        "link",
        "An acceptor that reads slowly gets garbage, and closes the connection.",
        "link.py",
        "while self._outbox and not self._rest and self._stream is not None:",
        "while self._outbox and self._stream is not None:",
        STREAM,
    ),
    Break(
        "the-rest-of-a-frame-is-sent-from-its-start",
        "link",
        "The same.",
        "link.py",
        "self._rest = memoryview(data)[self._stream.send_now(data) :]",
        "self._rest = memoryview(data)[: len(data) - self._stream.send_now(data)]",
        STREAM,
    ),
    Break(
        "what-waited-for-the-rest-is-not-sent",
        "link",
        "Under load a client waits for answers to what it never sent.",
        "link.py",
        '            self._rest = memoryview(b"")\n            self._send()\n',
        '            self._rest = memoryview(b"")\n',
        STREAM,
    ),
    Break(
        "pauses-never-end",
        "rounds",
        "A writer that lost a duel, or lacks an answer, waits until its time is up.",
        "pauses.py",
        "                if who.pause_end == end:\n",
        "                if who.pause_end is None:\n",
        FAST,
    ),
    Break(
        "a-round-that-nobody-needs-goes-on",
        "R12",
        "An acceptor that is away costs its peers a task and a frame for each call.",
        "rounds.py",
        "            nursery.cancel_scope.cancel()\n",
        "            pass\n",
        CLIENT,
    ),
    Break(
        "what-nobody-needs-is-not-withdrawn",
        "R12",
        "Batches that nobody waits for any more stay in memory.",
        "rounds.py",
        "                    link.withdraw(exchange)\n",
        "                    pass\n",
        LINK,
    ),
    Break(
        "what-was-posted-is-lost-with-its-connection",
        "client",
        "A call waits for its time to be up, though its acceptors are all there again.",
        "rounds.py",
        "        if not exchange.answered:\n",
        "        if exchange.answered:\n",
        LINK,
    ),
    Break(
        "time-is-never-up",
        "client",
        "A call waits for ever.",
        "client.py",
        "                call.stop(self._unavailable(call))\n",
        "                pass\n",
        CALLED,
    ),
    Break(
        "a-call-that-must-end-goes-on",
        "client",
        "A call that a closed client should have ended between two waits hangs.",
        "client.py",
        "            raise self._error\n        self.operation",
        "            pass\n        self.operation",
        CALLED,
    ),
    Break(
        "who-was-woken-cannot-be-stopped",
        "client",
        "A reader whose pause ends when its time is up waits for ever.",
        "rounds.py",
        "        if self.outcome is None:\n            self.outcome = outcome\n",
        "        if not self._woken:\n            self.outcome = outcome\n",
        CALLED,
    ),
    Break(
        "who-gets-the-turn-cannot-be-stopped",
        "client",
        "The same with one that gets its turn.",
        "client.py",
        "        if self._job is not None:  #",
        "        elif self._job is not None:  #",
        CALLED,
    ),
    Break(
        "commits-go-to-those-who-are-behind",
        "R12",
        "An acceptor that takes nothing is told more and more, and all of it is kept.",
        "commits.py",
        "                    if link.ready:\n                        link.tell(batch)\n",
        "                    link.tell(batch)\n",
        COMMITS,
    ),
    Break(
        "what-was-dropped-is-read-until-it-is-written",
        "R9",
        "A version is there after it was dropped.",
        "storage/disk.py",
        "        if not kept.summary.floor <= ver <= kept.reach:\n",
        "        if not 0 <= ver <= kept.reach:\n",
        "tests/test_storage.py",
    ),
    Break(
        "promises-are-out-of-reach",
        "R2",
        "A promise for a version above all others is on disk, and is not looked for.",
        "storage/disk.py",
        "        if changed or reach > kept.reach:\n",
        "        if changed:\n",
        "tests/test_storage.py",
    ),
    Break(
        "two-errors-of-a-connection-end-the-acceptor",
        "R12",
        "A client that stalls while it waits in line takes the acceptor with it.",
        "server.py",
        "        except* trio.BrokenResourceError:\n",
        "        except* trio.BusyResourceError:\n",
        "tests/test_lines.py",
    ),
    Break(
        "a-reply-after-half-of-another",
        "server",
        "A client takes the middle of one reply for the beginning of the next.",
        "server.py",
        "                self._cut = True\n",
        "",
        STREAM,
    ),
    Break(
        "who-waits-for-another-write-has-no-time-limit",
        "client",
        "A put behind one that hangs hangs as well.",
        "client.py",
        "            self._scope.cancel()\n",
        "            pass\n",
        "tests/test_kv.py",
    ),
    Break(
        "old-news-end-a-turn",
        "lines",
        "Who has the turn loses it by its own accept, and all duel again.",
        "server.py",
        "if key in self._lines and self.acceptor.known(key).ver < ver else",
        "if key in self._lines else",
        LINES,
    ),
    Break(
        "a-crowd-is-not-noticed",
        "lines",
        "A client that writes without a pause keeps a key to itself, and the others starve.",
        "client.py",
        "met_others = write.lost > 0 or write.crowded",
        "met_others = write.lost > 0",
        LINES,
    ),
    # --- What the store has in memory ---------------------------------------------------------
    Break(
        "memory-survives-a-failed-flush",
        "R1",
        "What the disk never took is told after all, and a power cut undoes it.",
        "storage/disk.py",
        "        self._unwritten = _Changes()\n        self._being",
        "        self._unwritten = getattr(self, '_being_written', _Changes())\n"
        "        self._being",
        STORE,
    ),
    Break(
        "what-is-being-written-is-not-seen",
        "R1",
        "Between two moments of a flush in a thread, a vote is forgotten.",
        "storage/disk.py",
        "self._unwritten.kept.get(key) or self._being_written.kept.get(key)",
        "self._unwritten.kept.get(key)",
        "tests/test_storage.py",
    ),
    Break(
        "what-is-not-written-makes-room",
        "R1",
        "A vote that waits for its flush is forgotten, for others of the key are looked at.",
        "storage/disk.py",
        "        if key not in self._unwritten.kept and key not in self._being_written.kept:\n",
        "        if kept.registers:\n",
        "tests/test_storage.py",
    ),
    Break(
        "the-versions-of-one-key-are-without-a-limit",
        "R12",
        "An acceptor keeps in memory every version that it ever voted for.",
        "storage/disk.py",
        "        if len(kept.registers) < _AT_HAND:\n",
        "        if len(kept.registers) > _AT_HAND:\n",
        "tests/test_storage.py",
    ),
    Break(
        "a-scan-misses-what-is-not-written",
        "R6",
        "A key that was just acknowledged is missing in a scan.",
        "storage/disk.py",
        "        self._write_out()\n        start = summary_name(prefix)\n",
        "        start = summary_name(prefix)\n",
        "tests/test_storage.py",
    ),
    Break(
        "the-recent-are-without-a-limit",
        "R12",
        "An acceptor keeps in memory whatever it was ever asked about.",
        "storage/recent.py",
        "        if self._size > self._half:\n",
        "        if self._size > self._half and self._size < 0:\n",
        "tests/test_storage.py -k recent",
    ),
    Break(
        "a-call-is-left-to-the-collector",
        "R12",
        "Calls pile up in memory until the garbage collector comes, which then takes its time.",
        "client.py",
        "        self._job = None  # which",
        "        # which",
        "tests/test_calls_end.py",
    ),
    Break(
        "what-follows-a-string-is-not-seen",
        "client",
        "Two ways to write one value: a set of the same again is refused, or is not.",
        "strictcbor.py",
        "len(data) == 2 + data[1]",
        "len(data) >= 2 + data[1]",
        "tests/test_strictcbor.py",
    ),
    Break(
        "what-nobody-waits-for-is-not-counted",
        "link",
        "An acceptor whose answers came too late to be of use counts as one that is behind.",
        "link.py",
        "            self._missing.difference_update(indexes)\n            return True\n",
        "            return True\n",
        "tests/test_link.py",
    ),
    Break(
        "a-summary-that-grows-does-not-count",
        "R12",
        "Keys with a thousand kept versions take the memory of an acceptor.",
        "storage/disk.py",
        "                self._recent.grew(more)\n",
        "",
        "tests/test_storage.py -k grows",
    ),
    Break(
        "a-compacted-version-loses-its-number",
        "wire",
        "A get of what was dropped names a latest version that there is not.",
        "wire.py",
        "return (5, latest, owner, serial, value, top)",
        "return (5, top, owner, serial, value, latest)",
        WIRE,
    ),
    Break(
        "an-append-is-forgotten-on-disk",
        "R1",
        "After a restart an append passes for a plain write, and is finished by others.",
        "storage/records.py",
        '_VOTE.pack(b"v", n, owner, m, voter, append, proposer',
        '_VOTE.pack(b"v", n, owner, m, voter, False, proposer',
        "tests/test_storage.py",
    ),
)
