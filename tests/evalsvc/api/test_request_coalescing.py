"""Those who ask the same together are answered together, and nobody reads what was before their own write."""

import asyncio

import httpx
import pytest

from evalsvc.api.server import request_coalescing
from evalsvc.api.server.request_coalescing import Coalesced
from evalsvc.api.server.response_cache import Recent
from evalsvc.store import paged_queries
from tests.evalsvc.gates.store import add_checkpoint


def counting(pause=0.02, error=None):
    calls = []

    async def compute():
        calls.append(len(calls))
        await asyncio.sleep(pause)
        if error:
            raise error
        return calls[-1]

    return calls, compute


def test_those_who_ask_together_share_one_answer():
    calls, compute = counting()
    shared = Coalesced[int](60)

    async def ask():
        return await asyncio.gather(*(shared.get("key", compute) for _ in range(50)))

    assert asyncio.run(ask()) == [0] * 50
    assert calls == [0]


def test_an_answer_grows_old_and_a_write_forgets_it(monkeypatch):
    calls, compute = counting(0)
    shared, now = Coalesced[int](0.5), [100.0]
    monkeypatch.setattr(request_coalescing.time, "monotonic", lambda: now[0])

    async def ask():
        await shared.get("key", compute)
        now[0] += 0.4
        await shared.get("key", compute)
        assert len(calls) == 1
        now[0] += 0.2
        await shared.get("key", compute)
        assert len(calls) == 2
        shared.clear()
        await shared.get("key", compute)
        assert len(calls) == 3

    asyncio.run(ask())


def test_an_error_goes_to_those_who_waited_and_is_not_kept():
    calls, compute = counting(error=ValueError("no"))
    shared = Coalesced[int](60)

    async def ask():
        found = await asyncio.gather(*(shared.get("key", compute) for _ in range(3)), return_exceptions=True)
        assert [str(each) for each in found] == ["no"] * 3
        with pytest.raises(ValueError, match="no"):
            await shared.get("key", compute)

    asyncio.run(ask())
    assert len(calls) == 2


def test_who_hangs_up_takes_nobody_along():
    calls, compute = counting()
    shared = Coalesced[int](60)

    async def ask():
        first = asyncio.create_task(shared.get("key", compute))
        await asyncio.sleep(0)
        others = [asyncio.create_task(shared.get("key", compute)) for _ in range(2)]
        await asyncio.sleep(0)
        others[0].cancel()
        first.cancel()
        return await others[1]

    assert asyncio.run(ask()) == 1
    assert len(calls) == 2


def test_not_more_is_kept_than_there_is_room(monkeypatch):
    monkeypatch.setattr(request_coalescing, "LARGEST", 3)
    _, compute = counting(0)
    shared = Coalesced[int](60)

    async def ask():
        for key in range(10):
            await shared.get(key, compute)

    asyncio.run(ask())
    assert [shared.fresh(key) for key in range(10)] == [False] * 7 + [True] * 3


def test_no_more_bytes_are_kept_than_there_is_room_for_and_none_that_are_old(monkeypatch):
    monkeypatch.setattr(request_coalescing, "HEAVIEST", 100)
    now, shared = [100.0], Coalesced[bytes](0.5, len)
    monkeypatch.setattr(request_coalescing.time, "monotonic", lambda: now[0])

    async def put(key, size):
        async def compute():
            return bytes(size)

        return await shared.get(key, compute)

    async def ask():
        for key in range(10):
            assert len(await put(key, 30)) == 30
        assert [shared.fresh(key) for key in range(10)] == [False] * 7 + [True] * 3
        assert len(await put("large", 101)) == 101
        assert [shared.fresh(key) for key in [*range(10), "large"]] == [False] * 7 + [True] * 3 + [False]
        await put("small", 30)
        now[0] += 0.6
        await put("another", 30)
        assert shared._weight == 30

    asyncio.run(ask())


def test_kept_leaderboards_have_a_limit_in_bytes():
    recent = Recent(100)
    for key in "abcd":
        recent.put(key, bytes(30))
    assert [recent.get(key) is not None for key in "abcd"] == [False, True, True, True]
    recent.put("b", bytes(40))
    assert [recent.get(key) is not None for key in "abcd"] == [False, True, True, True]
    recent.put("large", bytes(101))
    assert recent.get("d") is not None
    recent.put("e", bytes(100))
    assert [recent.get(key) is not None for key in ("b", "c", "large", "e")] == [False, False, False, True]


def test_a_reader_sees_what_was_just_written_through_this_server(app, client, filled):
    app.state.answers = Coalesced(60)
    admin = client("admin")
    assert admin.get("/api/v1/aliases/production").json()["checkpoint"]["step"] == 1
    admin.put("/api/v1/aliases/production", json={"checkpoint": "flow@9", "gate": filled.gate})
    assert admin.get("/api/v1/aliases/production").json()["checkpoint"]["step"] == 9


def test_a_shared_answer_is_still_refused_to_who_may_not_have_it(app, live, token, filled):
    app.state.answers = Coalesced(60)
    url = f"{live}/api/v1/models"
    assert httpx.get(url, headers={"authorization": f"Bearer {token}"}).status_code == 200
    assert httpx.get(url, headers={"authorization": "Bearer evs_other"}).status_code == 401
    assert httpx.get(url).status_code == 401


def test_a_hundred_watchers_cost_as_much_as_one(live, token, server, monkeypatch):
    with server.database.write() as session:
        add_checkpoint(session, "flow", 1)
    asked, models = [], paged_queries.models
    monkeypatch.setattr(paged_queries, "models", lambda: asked.append(1) or models())

    async def watch():
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as watcher:
            return await asyncio.gather(*(watcher.get(f"{live}/api/v1/models") for _ in range(40)))

    answers = asyncio.run(watch())
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len(asked) < 10


def test_strangers_who_ask_whether_it_is_ready_share_one_look(live, app, server, monkeypatch):
    app.state.answers = Coalesced(60)
    looks, revision = [], server.database.revision
    monkeypatch.setattr(server.database, "revision", lambda: looks.append(1) or revision())
    assert {httpx.get(f"{live}/readyz?{number}", timeout=60).status_code for number in range(5)} == {200}
    assert looks == [1]
