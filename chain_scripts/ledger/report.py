"""The outcome of an audit, for people and for programs."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efedllm.chain.errors import ChainError
from efedllm.options import table

from .collect import Collected
from .compare import Snapshot, surplus
from .difference import Difference
from .fold import Rules
from .games import BURNED
from .state import CHANNELS_KINDS, GAME_KINDS, STAKE_KINDS, Account, Ledger
from .vouchers import VoucherCheck

Show = Callable[[int], str]
"""Base units as people read them."""


@dataclass(frozen=True)
class Audit:
    """Everything that was rebuilt, read and compared."""

    rules: Rules
    ledger: Ledger
    snapshot: Snapshot
    vouchers: VoucherCheck
    collected: Collected
    differences: tuple[Difference, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self.differences else 0

    def lines(self) -> list[tuple[str, str, int, int]]:
        """Sums by the events, and the same as the contracts have them: name for programs, name for people, both."""
        ledger, snapshot, rules = self.ledger, self.snapshot, self.rules
        channels, accounts = snapshot.channels.values(), snapshot.accounts.values()
        participants = snapshot.participants.values()
        channels_tokens = ledger.tokens[rules.channels], snapshot.balances[rules.channels]
        stake_tokens = ledger.tokens[rules.stake_registry], snapshot.balances[rules.stake_registry]
        deposits = sum(channel.deposit - channel.claimed for channel in channels)
        return [
            ("channels", "in channels, not claimed", ledger.sum("channel"), deposits),
            ("pending", "pending claims", ledger.sum("pending"), sum(account.pending for account in accounts)),
            ("earnings", "earnings", ledger.sum("earnings"), sum(account.earnings for account in accounts)),
            ("fees", "protocol fees", ledger.sum("fees"), snapshot.fees),
            ("channels_tokens", "tokens of Channels", *channels_tokens),
            ("stake", "stake", ledger.sum("stake"), sum(one.stake for one in participants)),
            ("unbonding", "unbonding stake", ledger.sum("unbonding"), sum(one.unbonding for one in participants)),
            ("stake_tokens", "tokens of StakeRegistry", *stake_tokens),
            *self._game_lines(),
        ]

    def _game_lines(self) -> list[tuple[str, str, int, int]]:
        game, rules, ledger = self.snapshot.game, self.rules.game, self.ledger
        if game is None or rules is None:
            return []
        return [
            ("bonds", "bonds of open disputes", ledger.sum("bond", "demand fee"), game.held()),
            ("pots", "pots of faults", ledger.sum("pot"), game.pots()),
            ("owed", "owed by the game", ledger.sum("owed"), sum(game.owed.values())),
            ("game_tokens", "tokens of DisputeGame", ledger.tokens[rules.address], game.balance),
        ]

    def moved(self) -> dict[str, int]:
        """What went through the contracts since they exist, base units."""
        ledger = self.ledger
        return {
            "deposited": ledger.moved("ChannelFunded"),
            "refunded": ledger.moved("ChannelClosed"),
            "claimed": ledger.moved("Claimed"),
            "released": ledger.moved("Released"),
            "earnings_withdrawn": ledger.moved("EarningsWithdrawn"),
            "fees_withdrawn": ledger.moved("FeesWithdrawn"),
            "forfeited": ledger.moved("Forfeited"),
            "staked": ledger.moved("Staked"),
            "stake_withdrawn": ledger.moved("StakeWithdrawn"),
            "slashed": ledger.moved("Slashed"),
            "bonded": sum(game.bond for game in ledger.games.games.values()),
            "collected": ledger.moved("Collected"),
            "burned": ledger.received(Account("owed", BURNED)),
        }

    def to_json(self) -> dict[str, Any]:
        collected = self.collected
        return {
            "ok": not self.differences,
            "block": self.snapshot.block,
            "events": self.ledger.events,
            "channels": len(self.ledger.channels),
            "claims": len(self.ledger.claims),
            "games": len(self.ledger.games.games),
            "faults": len(self.ledger.games.faults),
            "vouchers": {"checked": len(self.vouchers.paid), "unavailable_claims": len(self.vouchers.unavailable)},
            "receipts": {
                "paid": collected.receipts,
                "checked": collected.receipts - min(collected.unavailable, collected.receipts),
                "unavailable": collected.unavailable,
                "records_checked": collected.records,
                "records_unavailable": collected.unavailable_records,
            },
            "unavailable": [{"what": name, "reason": reason} for name, reason in self._unavailable()],
            "balances": {
                name: {"events": str(by_events), "contracts": str(by_contracts)}
                for name, _, by_events, by_contracts in self.lines()
            },
            "moved": {name: str(amount) for name, amount in self.moved().items()},
            "differences": [difference.to_json() for difference in self.differences],
        }

    def to_text(self, show: Show) -> str:
        """A table for people; a line for everything that differs or could not be checked."""
        # Numbers only, in one line below each other: the unit stands above.
        rows = [
            (name, *(show(amount).split()[0] for amount in pair), "=" if pair[0] == pair[1] else "DIFFERS")
            for _, name, *pair in self.lines()
        ]
        unit = show(0).partition(" ")[2]
        ledger, collected = self.ledger, self.collected
        lines = [
            f"ledger at block {self.snapshot.block}; amounts in {unit}",
            "",
            table(("", "by events", "by contracts", ""), rows),
            "",
        ]
        kinds = {"Channels": CHANNELS_KINDS, "StakeRegistry": STAKE_KINDS, "DisputeGame": GAME_KINDS}
        for contract, name in self.rules.names.items():
            if extra := surplus(ledger, contract, kinds[name]):
                lines.append(f"{show(extra)} in {name} is owed to nobody")
        counts = f"{ledger.events} events, {len(ledger.channels)} channels, {len(ledger.claims)} claims"
        if self.rules.game:
            counts += f", {len(ledger.games.games)} games and demands, {len(ledger.games.faults)} faults"
        lines.append(counts)
        unshown = _but(len(self.vouchers.unavailable), "claims without their vouchers")
        lines.append(f"{len(self.vouchers.paid)} vouchers checked{unshown}")
        checked = max(0, collected.receipts - collected.unavailable)
        lines.append(f"{checked} receipts checked against their roots{_but(collected.unavailable, 'unavailable')}")
        if collected.records or collected.unavailable_records:
            more = _but(collected.unavailable_records, "unavailable")
            lines.append(f"{collected.records} records checked against their receipts{more}")
        lines += [f"unavailable: {name}: {reason}" for name, reason in self._unavailable()]
        lines += [f"DIFFERENCE: {difference}" for difference in self.differences]
        count = len(self.differences)
        found = f"{count} difference{'s' if count > 1 else ''}, amounts in base units: the first is the likeliest cause"
        return "\n".join([*lines, found if count else "the ledger adds up"])

    def _unavailable(self) -> list[tuple[str, str]]:
        """What could not be checked, and why."""
        claims = [(str(claim), "its transaction does not show its vouchers") for claim in self.vouchers.unavailable]
        return [*claims, *self.collected.silent.items()]


def write_csv(ledger: Ledger, path: Path) -> None:
    """The ledger, a posting a line, amounts in base units. Raises ChainError if the file cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("block", "log_index", "transaction", "event", "from", "to", "amount", "detail"))
            for posting in ledger.postings:
                origin = posting.origin
                place = (origin.block_number, origin.log_index, "0x" + origin.transaction_hash.hex())
                writer.writerow((*place, posting.event, posting.source, posting.target, posting.amount, posting.detail))
    except OSError as error:
        raise ChainError(f"cannot write {path}: {error.strerror}") from error


def _but(count: int, what: str) -> str:
    return f", {count} {what}" if count else ""
