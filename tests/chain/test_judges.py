"""Step verifiers: only code that this program was built with may judge what its workers do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from chain_scripts.creation import Creator
from efedllm.chain.chain import Chain
from efedllm.chain.code import first_difference
from efedllm.chain.errors import DeploymentError
from efedllm.chain.judges import check_step_verifier
from efedllm.chain.local import AnvilProcess
from efedllm.cli import main
from efedllm.protocol.values import ZERO_ADDRESS
from tests.support.chain import new_account

PARTS = ("AttentionVerifier", "SamplingVerifier", "StepVerifier")


async def deploy(chain: Chain) -> dict[str, str]:
    """Addresses of a step verifier and its parts."""
    creator = Creator(chain.rpc, chain.sender(await new_account(chain)), lambda _: None)
    made = {name: await creator.create(name) for name in PARTS[:2]}
    return made | {PARTS[2]: await creator.create(PARTS[2], *made.values())}


async def test_the_shipped_ones_are_known(chain: Chain) -> None:
    made = await deploy(chain)
    await check_step_verifier(chain, made["StepVerifier"])
    await check_step_verifier(chain, chain.deployment.contracts.step_verifier)


async def test_none_at_all_is_for_where_nobody_can_slash(chain: Chain, anvil: AnvilProcess, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="was registered without a step verifier"):
        await check_step_verifier(chain, ZERO_ADDRESS)
    path = tmp_path / "deployment.json"
    command = ["deploy", "--local", "--no-disputes", "--rpc", anvil.url, "--out", str(path)]
    assert await asyncio.to_thread(main, command) == 0
    async with await Chain.connect(anvil.url, path) as other:
        await check_step_verifier(other, ZERO_ADDRESS)
        assert other.game is None


@pytest.mark.parametrize("name", PARTS)
async def test_a_changed_byte_anywhere_is_refused(chain: Chain, anvil: AnvilProcess, name: str) -> None:
    made = await deploy(chain)
    code = bytearray(await chain.rpc.code(made[name]))
    code[100] ^= 1
    anvil.rpc("anvil_setCode", made[name], "0x" + code.hex())
    with pytest.raises(DeploymentError, match=rf"the {name} at .* is not the one of this program .byte 100 differs"):
        await check_step_verifier(chain, made["StepVerifier"])


async def test_other_parts_are_refused(chain: Chain) -> None:
    """Immutables may be anything, so what they point at is looked at too."""
    creator = Creator(chain.rpc, chain.sender(await new_account(chain)), lambda _: None)
    made = await deploy(chain)
    swapped = await creator.create("StepVerifier", made["SamplingVerifier"], made["AttentionVerifier"])
    with pytest.raises(DeploymentError, match="the AttentionVerifier at"):
        await check_step_verifier(chain, swapped)
    with pytest.raises(DeploymentError, match=r"the StepVerifier at .* bytes instead of"):
        await check_step_verifier(chain, chain.token.address)


async def test_a_slasher_that_the_file_does_not_know(chain: Chain) -> None:
    contracts = replace(chain.deployment.contracts, dispute_game=ZERO_ADDRESS)
    other = Chain(chain.rpc, replace(chain.deployment, contracts=contracts))
    with pytest.raises(DeploymentError, match="can slash stakes here, but the deployment file says"):
        await check_step_verifier(other, ZERO_ADDRESS)


def test_immutables_are_passed_over() -> None:
    assert first_difference(b"ab\0\0cd", [(2, 4)], b"abxycd") == ""
    assert first_difference(b"ab\0\0cd", [(2, 4)], b"abxycD") == "byte 5 differs first"
    assert first_difference(b"ab\0\0cd", [(2, 4)], b"abxyc") == "5 bytes instead of 6"
    assert first_difference(b"", [], b"") == ""
