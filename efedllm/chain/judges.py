"""Which step verifiers are known: one with other code could have the workers of its models slashed for anything."""

from efedllm.chain.abi import interface
from efedllm.chain.chain import Chain
from efedllm.chain.code import first_difference
from efedllm.chain.errors import DeploymentError
from efedllm.protocol.values import ZERO_ADDRESS

_PARTS = {"attention": "AttentionVerifier", "sampling": "SamplingVerifier"}
"""Contracts that `StepVerifier` calls, by the getters of their addresses."""


async def check_step_verifier(chain: Chain, step_verifier: str) -> None:
    """Whether a model with this step verifier is judged by code that this program was built with.

    Raises DeploymentError if its code is other code, or if it is missing although somebody can slash; and if that is
    another contract than the deployment file says.
    """
    expected, slasher = chain.deployment.contracts.dispute_game, await chain.stakes.slasher()
    if slasher != expected:
        raise DeploymentError(f"{slasher} can slash stakes here, but the deployment file says {expected}")
    if step_verifier == ZERO_ADDRESS:
        if slasher == ZERO_ADDRESS:
            return
        raise DeploymentError(
            "the model was registered without a step verifier, so that nothing could be defended here: register it"
            " with the deployment's own (`efedllm model register`)"
        )
    await _check_code(chain, "StepVerifier", step_verifier)
    known = interface("StepVerifier")
    for getter, name in _PARTS.items():
        answer = await chain.rpc.call(step_verifier, known.encode_call(getter))
        await _check_code(chain, name, str(known.decode_result(getter, answer)[0]))


async def _check_code(chain: Chain, name: str, address: str) -> None:
    known = interface(name)
    difference = first_difference(known.runtime, known.immutables, await chain.rpc.code(address))
    if difference:
        raise DeploymentError(
            f"the {name} at {address} is not the one of this program ({difference}): it may judge as it likes, so"
            " nothing is served; upgrade this program, or serve a model that is registered with a known one"
        )
