"""Signed requests without a chain: what a client would send, for keys that live as long as a benchmark."""

import time
from dataclasses import dataclass, field
from itertools import count

from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.protocol import eip712
from efedllm.protocol.messages import Open
from efedllm.protocol.objects import KIND_INFERENCE, Hop, Request, Sampling
from efedllm.protocol.requests import prompt_root

DOMAIN = eip712.Domain(31337, "0x" + "c0" * 20)
MODEL_ID = b"\x11" * 32
PROMPT_PRICE, TOKEN_PRICE = 3, 10
EPOCH = 1
CREDIT_TOKENS = 32
DEPOSIT = 10**12
SALT = b"\x55" * 32
SEED = b"\x07" * 32
GREEDY = Sampling(0, 0, 65536)

_nonces = count(1)


def new_key() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


def hop(worker: str, start: int, end: int) -> Hop:
    return Hop(worker, start, end, PROMPT_PRICE, TOKEN_PRICE)


@dataclass(frozen=True)
class Payer:
    """A client's two addresses; it owns no coin, since nothing here asks a chain."""

    account: LocalAccount = field(default_factory=new_key)
    session: LocalAccount = field(default_factory=new_key)

    def open(self, path: tuple[Hop, ...], prompt: list[int], max_tokens: int) -> Open:
        """A greedy request of `max_tokens` tokens, signed."""
        request = Request(
            payer=self.account.address,
            nonce=next(_nonces),
            expiry=int(time.time()) + 1800,
            kind=KIND_INFERENCE,
            modelId=MODEL_ID,
            path=path,
            promptRoot=prompt_root(SALT, prompt),
            promptCount=len(prompt),
            maxTokens=max_tokens,
            stopIds=(),
            seed=SEED,
            sampling=GREEDY,
        )
        signature = eip712.sign(DOMAIN, request, self.session)
        return Open(eip712.digest(DOMAIN, request), request, signature, SALT, prompt)
