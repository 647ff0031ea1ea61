"""A challenger without a case: opens games against honest workers, and tries everything that could make them lose."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from efedllm.chain.binding import Call
from efedllm.chain.dispute_game import DisputeGame, Draw, Opening, TokenProof
from efedllm.chain.events import Event
from efedllm.chain.game_events import Demanded, Ended, LeafRevealed, Opened, Revealed
from efedllm.model.trace_openings import TraceOpenings
from efedllm.protocol import eip712
from efedllm.protocol.descent import Descent, Pick, spot_of
from efedllm.protocol.game import OVER, Game, Paper, Phase, Side, TokenFault
from efedllm.protocol.hash_tree import siblings
from efedllm.protocol.merkle import node_hash, prove, token_leaf
from efedllm.protocol.objects import Receipt
from efedllm.protocol.statements import TokenEvidence, TokenStatement, show_stop_id, show_vocabulary
from efedllm.protocol.trace import Step
from efedllm.protocol.trace_tensors import Exit, Layer
from tests.support.cheat_session import Session
from tests.support.cheat_work import Work
from tests.support.mock_game import Player, honest_player
from tests.verifier.path import SALT, hot

NOISE = b"\x6e" * 32


@dataclass(frozen=True)
class Stand:
    """A receipt of an honest worker, with everything that the thief knows of it, which is all."""

    session: Session
    at: int
    receipt: Receipt
    draw: Draw = Draw()  # noqa: RUF009  frozen

    @cached_property
    def digest(self) -> bytes:
        return eip712.digest(self.session.terms.domain, self.receipt)

    @cached_property
    def signature(self) -> bytes:
        return eip712.sign(self.session.terms.domain, self.receipt, hot(self.session.terms.hand(self.at)))

    @property
    def paper(self) -> Paper:
        return Paper(self.session.request, self.receipt, self.signature)

    @cached_property
    def work(self) -> Work:
        return self.session.own_at(self.at, self.receipt.positions, self.receipt.generated)

    @cached_property
    def descent(self) -> Descent:
        return Descent(self.work.shape)

    @cached_property
    def own(self) -> Player:
        return honest_player(self.work.honest)

    @cached_property
    def tokens(self) -> list[int]:
        """Under the receipt's token root."""
        return self.session.tokens[: self.receipt.promptCount + self.receipt.generated]

    @property
    def sides(self) -> list[Side]:
        return [side for side in (Side.INPUT, Side.BODY, Side.OUTPUT) if self.descent.words(side)]


@dataclass
class Scheme:
    """One game of the thief's. patience: moves that it makes before it goes silent."""

    stand: Stand
    patience: int
    opened: Opened | Demanded
    children: tuple[bytes, ...] = ()
    leaf: bytes = b""
    ended: Ended | None = None

    def hear(self, event: Event) -> None:
        match event:
            case Revealed():
                self.children = event.children
            case LeafRevealed():
                self.leaf = event.leaf
            case Ended():
                self.ended = event


@dataclass
class Thief:
    """heard: the last block whose events it knows."""

    calls: DisputeGame
    address: str
    seed: int
    heard: int = 0
    schemes: dict[int, Scheme] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    # ── moves that are allowed ──────────────────────────────────────────────

    def move(self, game_id: int, game: Game) -> Call | None:
        """A random one; None where it is not the thief's turn, or its patience is over."""
        scheme = self.schemes[game_id]
        if scheme.patience == 0 or game.phase not in (Phase.SIDE, Phase.PICK):
            return None
        scheme.patience -= 1
        stand, paper = scheme.stand, replace(scheme.stand.paper, signature=b"")
        if game.phase is Phase.SIDE:
            return self.calls.choose_side(game_id, self.random.choice(stand.sides), paper)
        return self._pick(game_id, stand, game, scheme.children)

    def _pick(self, game_id: int, stand: Stand, game: Game, children: Sequence[bytes]) -> Call:
        picked = self.any_pick(stand, game, children)
        if picked.is_row:
            paper = replace(stand.paper, signature=b"")
            return self.calls.pick_row(game_id, picked.digit, picked.child, picked.siblings, paper)
        return self.calls.pick(game_id, picked.digit, picked.child, picked.siblings)

    def any_pick(self, stand: Stand, game: Game, children: Sequence[bytes], is_empty: bool = False) -> Pick:
        """One that leads somewhere, or one where nothing is."""
        spot = spot_of(game)
        if not spot.height:
            return Pick(0, game.node, (), is_row=True, is_empty=False)
        digits = [
            at for at in range(len(children)) if stand.descent.is_empty(stand.descent.child(spot, at)) is is_empty
        ]
        digit = self.random.choice(digits)
        return _pick_of(stand.descent, game, children, digit)

    # ── moves that have to be refused ───────────────────────────────────────

    def tricks(self, game_id: int, game: Game) -> list[Call]:
        """For a game as it is now."""
        scheme, calls = self.schemes[game_id], self.calls
        stand = scheme.stand
        paper = replace(stand.paper, signature=b"")
        found = [
            calls.timeout(game_id, stand.receipt) if game.phase not in OVER else calls.reveal(game_id, ()),
            calls.post_trace(game_id, game.receipt_digest, NOISE),
            calls.reveal_leaf(game_id, paper, NOISE),
            calls.prove_row(game_id, paper, NOISE, ()),
            calls.prove_step(game_id, paper, NOISE, 0, ()),
            calls.refund(stand.receipt, stand.receipt.payer, self.address, stand.draw.part),
            calls.collect(stand.receipt.worker, stand.receipt.requestId, self.address),
        ]
        if game.phase is Phase.PICK and scheme.children:
            spot = spot_of(game)
            picked = self.any_pick(stand, game, scheme.children)
            past = len(scheme.children)
            found += [
                calls.pick(game_id, past, picked.child, picked.siblings),
                calls.pick(game_id, 255, picked.child, picked.siblings),
                calls.pick(game_id, picked.digit, NOISE, picked.siblings),
                calls.pick(game_id, picked.digit, picked.child, picked.siblings[1:]),
                calls.choose_side(game_id, Side.BODY, paper),
            ]
            if picked.child != picked.siblings[0]:
                found.append(calls.pick(game_id, picked.digit ^ 1, picked.child, picked.siblings))
            if any(stand.descent.is_empty(stand.descent.child(spot, at)) for at in range(past)):
                empty = self.any_pick(stand, game, scheme.children, is_empty=True)
                found.append(calls.pick(game_id, empty.digit, empty.child, empty.siblings))
            # The other of the two functions.
            if picked.is_row:
                found.append(calls.pick(game_id, picked.digit, picked.child, picked.siblings))
            else:
                found.append(calls.pick_row(game_id, picked.digit, picked.child, picked.siblings, paper))
        if game.phase is Phase.PROOF:
            found += self._proofs(game_id, scheme, game, paper)
        return found

    def _proofs(self, game_id: int, scheme: Scheme, game: Game, paper: Paper) -> list[Call]:
        stand, calls, leaf, spot = scheme.stand, self.calls, scheme.leaf, spot_of(game)
        descent, trace = stand.descent, stand.work.honest
        if game.side is Side.BODY:
            place = descent.place(spot)
            part = descent.shape.find_leaf(place.segment, place.tensor, place.leaf)[1]
            count, openings = len(leaf) // part.kind.size, TraceOpenings(trace)
            found = []
            for element in {0, count - 1, self.random.randrange(count)}:
                shown = _plain(openings.openings(Step(*place, element)))
                altered = bytes([leaf[0] ^ 1, *leaf[1:]])
                found += [
                    calls.prove_step(game_id, paper, leaf, element, shown),
                    calls.prove_step(game_id, paper, altered, element, shown),
                    calls.prove_step(game_id, paper, leaf, element, self._garbled(shown)),
                    calls.prove_step(game_id, paper, leaf, count + element, shown),
                    calls.prove_step(game_id, paper, leaf, element, shown[:-1] if shown else _plain_noise()),
                ]
            return [*found, calls.prove_step(game_id, paper, leaf, 0, self._replayed(stand, openings))]
        if game.side is Side.OUTPUT and not descent.is_last:
            last = descent.shape.segments - descent.shape.has_exit - 1
            row, at = descent.word(spot), descent.shape.row_node
            nodes = [at(last, Layer.ADD_MLP, one) for one in {row, (row + 1) % descent.shape.positions}]
            shown = [(trace.node(node), siblings(trace.node, node)) for node in nodes]
            return [calls.prove_row(game_id, paper, *one) for one in [*shown, (NOISE, shown[0][1])]]
        return self._token_proofs(game_id, scheme, game, paper)

    def _token_proofs(self, game_id: int, scheme: Scheme, game: Game, paper: Paper) -> list[Call]:
        stand, calls, leaf = scheme.stand, self.calls, scheme.leaf
        descent, trace, word = stand.descent, stand.work.honest, stand.descent.word(spot_of(game))
        index = word if game.side is Side.INPUT else stand.receipt.promptCount + word
        leaves = [token_leaf(token) for token in stand.tokens]
        index = min(index, len(leaves) - 1)
        proofs = [
            TokenProof(TokenFault.VOCABULARY),
            TokenProof(TokenFault.TOKEN_ROOT, leaves[index], siblings=tuple(prove(leaves, index))),
            TokenProof(TokenFault.TOKEN_ROOT, NOISE, siblings=tuple(prove(leaves, index))),
            TokenProof(TokenFault.SAMPLE, sample=bytes(16)),
        ]
        if word < stand.receipt.promptCount:
            prompt = leaves[: stand.receipt.promptCount]
            proofs.append(TokenProof(TokenFault.PROMPT, prompt[word], SALT, siblings=tuple(prove(prompt, word))))
            proofs.append(TokenProof(TokenFault.PROMPT, NOISE, SALT, siblings=tuple(prove(prompt, word))))
        if descent.shape.has_exit and game.side is Side.OUTPUT:
            row = stand.receipt.promptCount - 1 + word
            for one in {row, stand.receipt.promptCount - 1}:
                node = descent.shape.row_node(descent.shape.segments - 1, Exit.SAMPLE, one)
                sample = trace.row(descent.shape.segments - 1, Exit.SAMPLE, one)
                above = siblings(trace.node, node)
                shown = sample if one == row else bytes([sample[0] ^ 1, *sample[1:]])
                proofs.append(TokenProof(TokenFault.SAMPLE, sample=shown, siblings=above))
        return [calls.prove_token(game_id, paper, leaf, proof) for proof in proofs]

    def _garbled(self, openings: tuple[Opening, ...]) -> tuple[Opening, ...]:
        if not openings:
            return _plain_noise()
        at = self.random.randrange(len(openings))
        one, byte = openings[at], self.random.randrange(len(openings[at].data))
        data = bytes([*one.data[:byte], one.data[byte] ^ 1 << self.random.randrange(8), *one.data[byte + 1 :]])
        return (*openings[:at], replace(one, data=data), *openings[at + 1 :])

    def _replayed(self, stand: Stand, openings: TraceOpenings) -> tuple[Opening, ...]:
        """Right in itself, but of another step: one of the first tensor, which has operands everywhere."""
        rows = stand.descent.shape.rows(0, 0)
        return _plain(openings.openings(stand.descent.shape.step(0, 0, self.random.choice(rows), 0, 0)))

    # ── statements ──────────────────────────────────────────────────────────

    def statements(self, stand: Stand, others: Sequence[Stand]) -> list[Call]:
        """Contradictions that there are not. others: receipts of the same worker, of this and other requests."""
        calls, paper, tokens = self.calls, stand.paper, stand.tokens
        forged = replace(stand.receipt, fee=stand.receipt.fee + 1)
        found = [
            calls.prove_shape(paper),
            calls.prove_shape(replace(paper, receipt=forged)),
            calls.prove_tokens(paper, show_vocabulary(tokens, 0)),
            calls.prove_tokens(paper, replace(show_vocabulary(tokens, 0), token=1 << 31)),
        ]
        if stand.at:
            upstream = stand.session.receipt_at(stand.at - 1, stand.receipt.positions, stand.receipt.generated)
            found += [calls.prove_link(paper, upstream), calls.prove_link(paper, replace(upstream, outputRoot=NOISE))]
        leaves = [token_leaf(token) for token in tokens]
        both = {"leaf": leaves[0], "siblings": tuple(prove(leaves, 0))}
        count = {TokenStatement.INPUT: stand.receipt.positions, TokenStatement.PROMPT: stand.receipt.promptCount}
        for statement, end in count.items():
            same = leaves[:end]
            evidence = TokenEvidence(
                statement, 0, **both, other=same[0], other_siblings=tuple(prove(same, 0)), salt=SALT
            )
            found += [calls.prove_tokens(paper, evidence), calls.prove_tokens(paper, replace(evidence, other=NOISE))]
        if stand.receipt.generated:
            given = tokens[stand.receipt.promptCount :]
            found.append(calls.prove_tokens(paper, show_stop_id(given, 0)))
        for other in others:
            found.append(calls.prove_equivocation(paper, other.receipt, other.signature))
            lie = replace(other.receipt, outputRoot=NOISE)
            found.append(calls.prove_equivocation(paper, lie, other.signature))
        return found


def _pick_of(descent: Descent, game: Game, children: Sequence[bytes], digit: int) -> Pick:
    """`descent.pick` without a reason."""
    child = descent.child(spot_of(game), digit)
    level, above, at = list(children), [], digit
    while len(level) > 1:
        above.append(level[at ^ 1])
        level = [node_hash(level[one], level[one + 1]) for one in range(0, len(level), 2)]
        at >>= 1
    return Pick(digit, children[digit], tuple(above), descent.is_row_root(child), descent.is_empty(child))


def _plain(openings: Sequence[object]) -> tuple[Opening, ...]:
    return tuple(Opening(one.data, one.siblings) for one in openings)  # type: ignore[attr-defined]


def _plain_noise() -> tuple[Opening, ...]:
    return (Opening(NOISE, (NOISE,)),)
