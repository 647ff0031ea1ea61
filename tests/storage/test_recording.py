"""The recorder of crashes: it must see every moment, or the tests built on it judge nothing."""

from pathlib import Path

import aiohttp
from aiohttp import web

from efedllm.storage import files
from efedllm.storage.database import Database
from tests.storage.test_database import LAYOUT, keep, names
from tests.support.crashes import ANSWER, COMMIT, FSYNC, REPLACE, REQUEST, SEND, WRITE, recorded, restored, some


def reopened(copy: Path) -> list[str]:
    database = Database(copy / "some.sqlite", LAYOUT)
    try:
        return names(database)
    finally:
        database.close()


def test_every_commit_is_a_point_that_can_be_reopened(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    with recorded(data, tmp_path / "copies") as crashes:
        database = Database(data / "some.sqlite", LAYOUT)
        for name in "abc":
            keep(database, name)
        database.close()
    assert [point.kind for point in crashes.points] == [COMMIT] * 4
    assert crashes.points[1].site == "tests/storage/test_database.py keep"
    found = [reopened(restored(point, tmp_path / f"at {point.number}")) for point in crashes.points]
    assert found == [[], ["a"], ["a", "b"], ["a", "b", "c"]]
    keep(database := Database(data / "some.sqlite", LAYOUT), "d")  # as before, and not recorded
    database.close()
    assert len(crashes.points) == 4


def test_writes_are_torn(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    with recorded(data, tmp_path / "copies") as crashes:
        files.extend(data / "a", None, b"1234")
        files.replace(data / "b", b"56")
    kinds = [WRITE, WRITE, WRITE, FSYNC, FSYNC, WRITE, WRITE, FSYNC, REPLACE, FSYNC]
    assert [point.kind for point in crashes.points] == kinds
    seen = [(point.copy / "a").read_bytes() for point in crashes.points[:3]]
    assert seen == [b"12", b"123", b"1234"]
    assert [(point.copy / "b").exists() for point in crashes.points[-4:]] == [False, False, True, True]


async def test_what_is_sent_counts_as_gone_before_it_leaves(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()

    async def answer(request: web.Request) -> web.Response:
        files.extend(data / "log", None, await request.read())
        return web.Response(body=b"yes")

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(b"hello")
        return socket

    app = web.Application()
    app.router.add_post("/", answer)
    app.router.add_get("/talk", talk)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with recorded(data, tmp_path / "copies") as crashes:
        async with aiohttp.ClientSession() as http:
            async with http.post(url, data=b"keep it") as response:
                assert await response.read() == b"yes"
            async with http.ws_connect(url + "/talk") as socket:
                await socket.receive()
                await socket.send_bytes(b"bye")
    await runner.cleanup()
    assert [(one.kind, one.data) for one in crashes.messages] == [
        (REQUEST, b"keep it"), (ANSWER, b"yes"), (SEND, b"hello"), (SEND, b"bye"),
    ]  # fmt: skip
    (request,) = [point for point in crashes.points if point.kind == REQUEST]
    assert crashes.sent_before(request)[-1].data == b"keep it"
    assert not (request.copy / "log").exists()
    reply = next(point for point in crashes.points if point.kind == ANSWER)
    assert (reply.copy / "log").read_bytes() == b"keep it"
    assert [one.data for one in crashes.sent_before(reply, "tests/storage/")] == [b"keep it", b"yes"]
    assert crashes.sent_before(reply, "worker/") == []


def test_some_points_of_every_site(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    with recorded(data, tmp_path / "copies") as crashes:
        for _ in range(9):
            files.extend(data / "a", None, b"1")
        files.replace(data / "b", b"1")
    chosen = some(crashes.points, 3)
    assert [point.number for point in chosen] == sorted(point.number for point in chosen)
    assert sum(point.kind == WRITE for point in chosen) == 3
    assert sum(point.kind == REPLACE for point in chosen) == 1
