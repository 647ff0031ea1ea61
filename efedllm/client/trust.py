"""How far a worker is trusted that may cheat without leaving evidence: what is paid on its word, and how long it is
avoided after it broke off. Pure; the numbers behind it are in the store.

A request that breaks off proves nothing: the worker may have been cut off, or ended it to be paid for work that nobody
saw. Either way it costs at most a credit window, once; completed requests win trust back, but so slowly that a worker
which completes cheap requests in between gains nothing.
"""

from dataclasses import dataclass

FORGIVEN_PART = 32
"""One in so many base units that completed requests paid may be paid on a worker's word again: as workers forgive."""
REQUESTS_PER_BREAK = 8
"""So many completed requests make one that broke off forgotten."""
FIRST_AVOIDED_SECONDS = 60
"""After one break; doubled for each more."""
MOST_BREAKS = 10
"""No more are counted: a worker is avoided for eight and a half hours at most."""
CAUGHT = 1000
"""Objection to a worker with evidence against it: more than any path without evidence can have."""


@dataclass(frozen=True)
class Word:
    """What one channel paid for requests that did not complete, in base units. `later`: all of it, since a request with
    this worker completed. `unseen`: for work in requests that broke off of which this client saw nothing."""

    later: int = 0
    unseen: int = 0

    def paid(self, amount: int, unseen: int) -> "Word":
        return Word(self.later + amount, self.unseen + unseen)

    def completed(self, fee: int) -> "Word":
        """After a request that completed and cost `fee`."""
        return Word(0, max(self.unseen - fee // FORGIVEN_PART, 0))


@dataclass(frozen=True)
class Breaks:
    """A worker's record of breaking off: `debt` counts completed requests until it is clean, `at` is the time of the
    last one in unix seconds."""

    debt: int = 0
    at: int = 0

    @property
    def count(self) -> int:
        return -(-self.debt // REQUESTS_PER_BREAK)

    def broke(self, now: int) -> "Breaks":
        return Breaks(min(self.debt + REQUESTS_PER_BREAK, MOST_BREAKS * REQUESTS_PER_BREAK), now)

    def completed(self) -> "Breaks":
        return Breaks(max(self.debt - 1, 0), self.at)

    def objection(self, now: int) -> int:
        """How much speaks against a path over this worker now; 0 if nothing does."""
        if not self.debt:
            return 0
        avoided = FIRST_AVOIDED_SECONDS * 2 ** (self.count - 1)
        # A clock that was set back makes nobody avoided for longer.
        return self.count if self.at <= now < self.at + avoided else 0
