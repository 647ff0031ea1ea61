"""A whole network on this machine, for the demo and the end-to-end tests: chain, contracts, people, model, programs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from efedllm.chain.amounts import format_amount
from efedllm.chain.deployment import Deployment
from efedllm.chain.keys import KeyRole, KeyStore

from .processes import Processes, Program

PASSWORD = "EFEDLLM_PASSWORD"
FEE_BPS = 500
STAKE = "1000"


@dataclass
class LocalNetwork:
    """What is running. Everybody's data directory lies in `folder` under their name."""

    processes: Processes
    folder: Path
    deployment: Deployment
    rpc: str
    model: Path
    model_id: str

    def data_dir(self, name: str) -> str:
        return str(self.folder / name)

    def amount(self, base_units: str | int) -> str:
        return f"{format_amount(int(base_units), self.deployment.token_decimals)} {self.deployment.token_symbol}"

    def start_worker(
        self,
        name: str,
        layers: str,
        prices: tuple[str, str],
        command: Sequence[str] = ("efedllm.cli", "worker"),
        more: Sequence[str] = (),
    ) -> Program:
        """A worker as its own process, with `more` options; `command` may name another program with the same ones."""
        options = ["--model", str(self.model), "--layers", layers, "--data-dir", self.data_dir(name), "--json"]
        options += ["--prompt-price", prices[0], "--token-price", prices[1]]
        options += ["--rpc", self.rpc, "--deployment", str(self.folder / "deployment.json")]
        return self.processes.start(name, [*command, *options, *more])

    def start_verifier(self) -> Program:
        options = ["--model", str(self.model), "--data-dir", self.data_dir("verifier"), "--json"]
        return self.processes.start("verifier", ["efedllm.cli", "verifier", *options])


def set_up(
    processes: Processes,
    folder: Path,
    model: Path,
    workers: Sequence[str],
    chain_options: Sequence[str] = (),
    deploy_options: Sequence[str] = (),
) -> LocalNetwork:
    """Chain, keys, contracts, money, model, stake, for a client, a treasury, a verifier and these workers.

    Commands that do not need each other run four at a time. The options are further ones of `chain` and `deploy`.
    """
    options = ["--port", "0", "--block-time", "1", "--json", *chain_options]
    chain = processes.start("chain", ["efedllm.cli", "chain", *options])
    people = ["client", "treasury", "verifier", *workers]
    keys = {name: KeyStore(folder / name) for name in people}
    for one, role in product(keys.values(), KeyRole):
        one.create(role, processes.environment[PASSWORD], light=True)
    addresses = {name: one.find(KeyRole.COLD).address for name, one in keys.items()}
    hot = [keys[name].find(KeyRole.HOT).address for name in workers_and_verifier(workers)]
    rpc = str(chain.wait_for("serving", 120)["rpc"])
    processes.environment["EFEDLLM_RPC"] = rpc
    fee = ["--protocol-fee-bps", str(FEE_BPS), "--fee-recipient", addresses["treasury"]]
    processes.run("deploy", "--local", "--out", str(folder / "deployment.json"), *fee, *deploy_options)
    processes.run("fund", *addresses.values())
    processes.run("fund", *hot, "--work", "0")
    with ThreadPoolExecutor(4) as pool:
        client = str(folder / "client")
        registered = pool.submit(processes.run, "model", "register", str(model), "--data-dir", client)
        staked = [
            pool.submit(processes.run, "stake", STAKE, "--role", role, "--data-dir", str(folder / name))
            for name, role in workers_and_verifier(workers).items()
        ]
        for future in staked:
            future.result()
    model_id = str(registered.result()["model_id"])
    deployment = Deployment.read(folder / "deployment.json")
    return LocalNetwork(processes, folder, deployment, rpc, model, model_id)


def workers_and_verifier(workers: Sequence[str]) -> dict[str, str]:
    """Roles by name."""
    return {**dict.fromkeys(workers, "worker"), "verifier": "verifier"}
