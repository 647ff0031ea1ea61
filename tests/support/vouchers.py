"""Vouchers in a worker's store, signed by a client's session key, without a model in between."""

from pathlib import Path

from efedllm.chain.deployment import Deployment
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.protocol.eip712 import sign
from tests.support.cli import PASSWORD, Person
from worker.store import Store, store_path


def give_voucher(client: Person, worker: Person, deployment: Deployment, total: int, epoch: int = 0) -> None:
    """The client pays the worker up to `total` base units; the worker keeps the voucher as if it had served."""
    session = KeyStore(client.data_dir).load(KeyRole.SESSION, PASSWORD)
    store = Store(_path(worker.data_dir, deployment))
    try:
        book = store.book(client.address, session.address, worker.address, epoch)
        leaf, replaces = book.next_leaf(total.to_bytes(32), total.to_bytes(32), total - book.total)
        voucher = book.voucher_after(leaf, replaces)
        store.keep_voucher(session.address, leaf, len(book.leaves), voucher, sign(deployment.domain, voucher, session))
    finally:
        store.close()


def _path(data_dir: Path, deployment: Deployment) -> Path:
    return store_path(data_dir, deployment.chain_id, deployment.contracts.channels)
