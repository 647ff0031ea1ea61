"""What a worker's data directory says it is owed. `efedllm claim` uses it beside a serving worker or without one."""

from pathlib import Path

from .errors import StoreError
from .store import HeldVoucher, Store, store_path


def best_vouchers(data_dir: Path, chain_id: int, channels: str) -> list[HeldVoucher]:
    """The latest voucher of every channel and epoch for this deployment. Raises StoreError without a store."""
    path = store_path(data_dir, chain_id, channels)
    if not path.exists():
        raise StoreError(f"no worker has served from {data_dir} on this deployment: pass the worker's --data-dir")
    store = Store(path, read_only=True)
    try:
        return store.best_vouchers()
    finally:
        store.close()
