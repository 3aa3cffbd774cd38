"""Whoever asks for much waits for themselves: turns go round, streams are counted and share one read."""

import asyncio
from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsvc.api.server import progress_feed
from evalsvc.api.server.problems import ProblemError
from evalsvc.api.server.shares import Shares
from evalsvc.store import tables


def served(shares, keys, hold=0.0):
    """The keys in the order in which they had their turn, and the most that ran of each."""
    order, running, most = [], {}, {}

    async def ask(key):
        async with shares.turn(key):
            order.append(key)
            running[key] = running.get(key, 0) + 1
            most[key] = max(most.get(key, 0), running[key])
            await asyncio.sleep(hold)
            running[key] -= 1

    async def ask_all():
        await asyncio.gather(*(ask(key) for key in keys))

    asyncio.run(ask_all())
    return order, most


def test_a_newcomer_is_served_before_those_who_asked_often():
    order, _ = served(Shares("tasks", 1, 1, 100), ["greedy"] * 50 + ["other"] * 2 + ["third"])
    assert order[:6] == ["greedy", "greedy", "other", "third", "greedy", "other"]
    assert len(order) == 53


def test_one_key_never_has_all_turns():
    _, most = served(Shares("tasks", 4, 3, 100), ["greedy"] * 20 + ["other"], 0.001)
    assert most == {"greedy": 3, "other": 1}


def test_a_full_line_is_refused_to_its_own_key_alone():
    shares = Shares("tasks", 2, 1, 1)

    async def ask():
        async with shares.turn("greedy"):
            second = asyncio.create_task(enter(shares, "greedy"))
            await asyncio.sleep(0)
            with pytest.raises(ProblemError, match="you have 2 concurrent tasks") as caught:
                await enter(shares, "greedy")
            assert (caught.value.status, caught.value.headers) == (429, {"retry-after": "5"})
            await enter(shares, "other")
        await second

    asyncio.run(ask())


async def enter(shares, key, patience=None):
    async with shares.turn(key, patience):
        pass


def test_who_gives_up_loses_nobody_a_turn():
    shares = Shares("tasks", 1, 1, 9)

    async def ask():
        async with shares.turn("a"):
            waiting = [asyncio.create_task(enter(shares, key)) for key in "abc"]
            await asyncio.sleep(0)
            waiting[1].cancel()
            with pytest.raises(ProblemError, match="the server is busy and could not start within 0.01 seconds"):
                await enter(shares, "d", 0.01)
        await asyncio.gather(waiting[0], waiting[2])
        # Cancelled in the moment in which the turn was given: it goes on to the next.
        async with shares.turn("a"):
            late = [asyncio.create_task(enter(shares, key)) for key in "bc"]
            await asyncio.sleep(0)
        late[0].cancel()
        await late[1]
        assert not shares._running
        assert not shares._lines

    asyncio.run(ask())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["go", "cancel", "late"])), max_size=30), st.data())
def test_no_turn_is_lost_and_none_too_many_given_whoever_gives_up(asked, data):
    shares, most, each = Shares("tasks", 3, 2, 4), [], []

    async def ask(key, how):
        with suppress(ProblemError):
            async with shares.turn(key, 0.001 if how == "late" else None):
                most.append(shares._running.total())
                each.append(shares._running[key])
                await asyncio.sleep(0.002 if how == "late" else 0)

    async def run():
        tasks = []
        for key, how in asked:
            task = asyncio.create_task(ask(key, how))
            tasks.append(task)
            for _ in range(data.draw(st.integers(0, 2))):
                await asyncio.sleep(0)
            if how == "cancel":
                tasks[data.draw(st.integers(0, len(tasks) - 1))].cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1)
        assert not shares._running
        assert not shares._lines

    asyncio.run(run())
    assert max(most, default=0) <= 3
    assert max(each, default=0) <= 2


@pytest.fixture
def running(server, filled):
    """An evaluation in progress, its stream's path and a way to end it."""
    with server.database.write() as session:
        session.get_one(tables.Evaluation, filled.evaluation).status = "running"

    def end():
        with server.database.write() as session:
            session.get_one(tables.Evaluation, filled.evaluation).status = "failed"

    return f"/api/v1/evaluations/{filled.evaluation}/events", end


def test_streams_share_one_read_and_leave_their_place_when_they_end(app, live, token, running, monkeypatch):
    path, end = running
    reads = []
    load = app.state.feed._load
    monkeypatch.setattr(app.state.feed, "_load", lambda ids: reads.append(list(ids)) or load(ids))
    monkeypatch.setattr(progress_feed, "EVERY", 0.05)
    app.state.streams.each = app.state.streams.slots = 30

    async def hold():
        limits = httpx.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=live, headers=headers, timeout=60, limits=limits) as watcher:

            async def follow():
                async with watcher.stream("GET", path) as answer:
                    return answer.status_code, [line async for line in answer.aiter_lines() if "event:" in line]

            streams = [asyncio.create_task(follow()) for _ in range(30)]
            while app.state.streams._running.total() < 30 or len(reads) < 3:
                await asyncio.sleep(0.02)
            refused = await watcher.get(path)
            assert refused.status_code == 429
            assert "you have 30 concurrent event streams" in refused.json()["detail"]
            assert (await watcher.get("/api/v1/models")).status_code == 200
            end()
            return await asyncio.gather(*streams)

    assert asyncio.run(hold()) == [(200, ["event: progress", "event: ended"])] * 30
    assert {tuple(ids) for ids in reads} == {(int(path.split("/")[4]),)}
    assert not app.state.streams._running
    assert not app.state.feed._followed


def test_a_stream_that_hangs_up_leaves_its_place(app, live, token, running):
    app.state.streams.each = 1
    with httpx.Client(base_url=live, headers={"authorization": f"Bearer {token}"}, timeout=60) as watcher:
        for _ in range(3):
            with watcher.stream("GET", running[0]) as answer:
                assert next(answer.iter_lines()) == "event: progress"
            while app.state.streams._running:
                pass


def test_who_tries_many_tokens_waits_for_themselves(app, client):
    app.state.lookups.slots = 0
    app.state.lookups.waiting = 0
    refused = client("read").get("/api/v1/models")
    assert refused.status_code == 503
    assert "unknown tokens" in refused.json()["detail"]
