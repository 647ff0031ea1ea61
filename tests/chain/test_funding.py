"""One channel is funded by the call that is cheaper for one."""

from efedllm.chain.abi import interface
from efedllm.chain.channels import Channels, Funding
from efedllm.chain.rpc import Rpc

KEY, WORKER, OTHER = ("0x" + byte * 20 for byte in ("11", "22", "33"))


def test_fund_takes_the_call_that_suits_the_number() -> None:
    channels = Channels(Rpc("http://127.0.0.1:1"), "0x" + "44" * 20)
    contract = interface("Channels")
    one = channels.fund(KEY, [Funding(WORKER, 7)])
    assert one.data == contract.encode_call("fundChannel", KEY, WORKER, 7)
    assert one.to == channels.address
    several = [Funding(WORKER, 7), Funding(OTHER, 8)]
    assert channels.fund(KEY, several).data == contract.encode_call("fund", KEY, several)
