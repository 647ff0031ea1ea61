"""A disk without room, or that may not be written: nothing is sent that could not be kept, and it is said in one line.

The limits are the system's own, on a process of its own: files may not grow beyond a size.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ASK = """
import asyncio, json, resource, signal, sys
from pathlib import Path
from eth_account import Account
from efedllm.client.errors import ClientError, StoreError
from tests.client.memory import client_on
from tests.client.test_session import PROMPT, TOKENS, market, read

ROOM = resource.getrlimit(resource.RLIMIT_FSIZE)

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM[0] if size is None else size, ROOM[1]))

async def main(folder, room, who):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signer, out = Account.create(), {"errors": [], "answers": 0}
    async with market(folder / "unused", [0, 2, 5]) as m:
        m.path.session_key = signer.address
        async with client_on(m.network, folder / "data", signer) as client:
            if who == "pages":
                client._store._db.rows(f"PRAGMA max_page_count = {room}")
            else:
                limit(room)
            for _ in range(12):
                try:
                    assert await read(client.generate(PROMPT, max_tokens=60)) == TOKENS[:60]
                    out["answers"] += 1
                except ClientError as error:
                    out["errors"].append([type(error).__name__, str(error)])
                    break
            out["paid"] = [worker.paid for worker in m.workers]
            out["signed"] = [client._payments.channel(worker.address).signed for worker in m.workers]
            latest = [list(worker.memory.receipts.values())[-1].requestId for worker in m.workers]
            out["unpaid"] = [
                worker.worked - worker.memory.book.covered(request)
                for worker, request in zip(m.workers, latest, strict=True)
            ]
            out["window"] = m.workers[0].window
            limit(None)
            client._store._db.rows("PRAGMA max_page_count = 1000000")
            assert await read(client.generate(PROMPT, max_tokens=60)) == TOKENS[:60]
            for worker in m.workers:
                assert worker.memory.book.leaves == client._payments.channel(worker.address)._book.leaves
    print(json.dumps(out))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
"""


def run(script: str, *arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("room", "who"), [(200_000, "process"), (100_000, "process"), (30, "pages")])
def test_no_room(tmp_path: Path, room: int, who: str) -> None:
    """Whatever cannot be kept is not sent; when there is room again, the same program goes on."""
    out = run(ASK, tmp_path, room, who)
    ((kind, message),) = out["errors"]
    assert kind == "StoreError"
    assert message.startswith("cannot keep what is signed in ") and message.endswith(
        "free or repair the disk, then try again"
    )
    assert "\n" not in message
    assert all(paid <= signed for paid, signed in zip(out["paid"], out["signed"], strict=True))
    assert all(unpaid <= out["window"] for unpaid in out["unpaid"])


READ_ONLY = """
import asyncio, os, sys
from pathlib import Path
from eth_account import Account
from efedllm.client.errors import StoreError
from tests.client.memory import MemoryNetwork, spec_of, DOMAIN
from efedllm.client.api import Access, Client

if os.geteuid() == 0:  # who may write everywhere
    os.setgroups([]); os.setgid(65534); os.setuid(65534)

async def main():
    access = Access(MemoryNetwork([], spec_of(5, 1000, 4096)), Account.create())
    try:
        async with Client(data_dir=Path(sys.argv[1]), access=access):
            print('"opened"')
    except StoreError as error:
        import json
        print(json.dumps(str(error)))

asyncio.run(main())
"""


@pytest.mark.parametrize("which", ["data", "state"])
def test_a_directory_that_may_not_be_written(public_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    data, state = public_path / "data", public_path / "state"
    for folder in (data, state):
        folder.mkdir()
        folder.chmod(0o555 if folder.name == which else 0o777)
    monkeypatch.setenv("EFEDLLM_STATE_DIR", str(state))
    message = run(READ_ONLY, data)
    assert message.startswith("cannot open ")
    assert f"/{which}/" in message
    assert "Permission denied: free or repair the disk" in message
    assert sorted(os.listdir(public_path / which)) == []
    for folder in (data, state):
        folder.chmod(0o777)


def test_a_state_directory_without_room(tmp_path: Path) -> None:
    """The voucher is kept, but does not leave before the witness has it; then it is delivered, once."""
    out = run(WITNESS_FULL, tmp_path)
    assert out["error"].startswith("cannot keep how far was signed in ")
    assert out["sent"] == 0
    assert out["after"] == out["signed"] > 0


WITNESS_FULL = """
import asyncio, json, sys
from pathlib import Path
from eth_account import Account
from efedllm.client.errors import StoreError
from tests.client.memory import client_on
from tests.client.test_session import PROMPT, TOKENS, market, read

async def main(folder):
    signer, out = Account.create(), {}
    async with market(folder / "unused", [0, 5]) as m:
        m.path.session_key = signer.address
        async with client_on(m.network, folder / "data", signer) as client:
            witness = client._payments._witness._db
            witness._open().execute("PRAGMA query_only = ON")
            try:
                await read(client.generate(PROMPT, max_tokens=60))
            except StoreError as error:
                out["error"] = str(error)
            out["sent"] = m.workers[0].paid
            witness._open().execute("PRAGMA query_only = OFF")
            done = await client.tend()
            out["after"] = m.workers[0].paid
            out["signed"] = client._payments.channel(m.workers[0].address).signed
    print(json.dumps(out))

asyncio.run(main(Path(sys.argv[1])))
"""
