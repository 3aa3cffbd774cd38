"""What reading costs in a store of twice the size: steps of SQLite's machine and calls of Python, never seconds."""

import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event, insert, update

from evalsvc.analysis import leaderboard as ranking
from evalsvc.api.server import leaderboard_stream
from evalsvc.core.errors import InputError
from evalsvc.evaluation.progress import progress
from evalsvc.queue.pending import overdue, pending
from evalsvc.store import dashboard_queries, names, paged_queries, queries, status_queries
from evalsvc.store.dashboard_queries import Filter
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint, Evaluation, Model, Protocol, Score, Status
from tests.dashboards.stores import fill

SUITE = "digits@1"
SIZE = 60
"""Checkpoints of the smaller store, each with twenty scores; half as many wait."""


class Cost:
    """What was spent: tens of steps of SQLite's machine, and calls of functions."""

    def __init__(self) -> None:
        self.steps = self.calls = 0

    def step(self) -> int:
        self.steps += 1
        return 0

    def call(self, frame, what, argument) -> None:
        self.calls += what in ("call", "c_call")

    def within(self, factor: float, other: "Cost") -> bool:
        """Whether it is at most so many times the other, up to what a few pages of a small file make out."""
        return self.steps <= factor * other.steps + 30 and self.calls <= factor * other.calls + 100


def made(folder, size):
    """A store of twenty models."""
    database = Database(f"sqlite:///{folder}/{size}.db")
    fill(database, [f"model-{place:02}" for place in range(20)], range(0, size // 2, 10), 20)
    queue(database, size // 2)
    return database


def queue(database, count):
    """Evaluations of the first checkpoint that wait, each with its own fingerprint."""
    row = {"checkpoint_id": 1, "suite_id": 1, "status": Status.QUEUED, "spec": {"seed": 1}, "on_queue": True}
    with database.write() as session:
        session.execute(
            insert(Evaluation), [row | {"id": 9000 + place, "fingerprint": f"queued {place}"} for place in range(count)]
        )


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("growth")
    found = [made(folder, size) for size in (SIZE, 2 * SIZE)]
    yield found
    for database in found:
        database.engine.dispose()


@contextmanager
def counted(database):
    """What the work of the block costs, in all connections of the database."""
    cost = Cost()

    def listen(connection):
        connection.connection.driver_connection.set_progress_handler(cost.step, 10)

    event.listen(database.engine, "begin", listen)
    before = sys.getprofile()
    sys.setprofile(cost.call)
    try:
        yield cost
    finally:
        sys.setprofile(before)
        event.remove(database.engine, "begin", listen)
        with database.engine.connect() as connection:
            connection.connection.driver_connection.set_progress_handler(None, 10)


def costs(stores, ask):
    """What a question costs in each store, asked a second time: the first compiles its statements."""
    found = []
    for database in stores:
        ask(database)
        with counted(database) as cost:
            ask(database)
        found.append(cost)
    return found


def reading(ask):
    def call(database):
        with database.read() as session:
            return ask(session)

    return call


def every_board(database):
    with database.read() as session:
        return ranking.boards(queries.scores(session, SUITE), None, "all")


def streamed(database):
    with database.read() as session:
        columns = ranking.columns_of(dashboard_queries.measured(session, SUITE))
        label = columns[0].label
        boards = ranking.boards(queries.scores(session, SUITE, label=label), label, "all")
    return b"".join(leaderboard_stream.pieces(database, boards, columns))


def unknown(session):
    with pytest.raises(InputError, match="nearest are"):
        names.find(session, "no-such-model@77")


def comparison(session):
    checkpoint = names.find(session, "model-03@10")
    return queries.side(session, checkpoint, SUITE), queries.replicates(session, checkpoint, SUITE)


WHOLE = {
    "every board": every_board,
    "every board, in pieces": streamed,
    "what is measured": reading(lambda session: dashboard_queries.measured(session, SUITE)),
    "one score of all": reading(lambda session: dashboard_queries.points(session, Filter(SUITE), "recall", "p")),
    "the models": reading(queries.models),
    "leaderboard": reading(lambda session: queries.last_scores(session, SUITE, "recall")),
    "counts": reading(status_queries.counts),
}
PART = {
    "a page of scores": lambda s: queries.chosen_scores(
        s, s.scalars(paged_queries.scores().order_by(Score.id.desc()).limit(20)).all()
    ),
    "scores of one label": lambda s: s.scalars(
        paged_queries.scores(label="recall").order_by(Score.id.desc()).limit(10)
    ).all(),
    "scores of a digest": lambda s: s.scalars(paged_queries.scores(digest=f"{1:064x}").limit(10)).all(),
    "scores of an unknown model": lambda s: s.scalars(paged_queries.scores(model="nobody").limit(10)).all(),
    "a name": lambda s: names.title_of(s, names.find(s, "model-03@10")),
    "a digest": lambda s: names.find(s, f"{3:064x}"),
    "a configuration": lambda s: names.matching(s, "model-03[noise=7]"),
    "an unknown name": unknown,
    "a comparison": comparison,
    "an evaluation": lambda s: (progress(s, [7]), queries.scores(s, evaluation=7)),
    "a page of evaluations": lambda s: progress(s, limit=10),
}


@pytest.mark.parametrize("what", WHOLE)
def test_twice_the_checkpoints_cost_twice_as_much_at_most(stores, what):
    small, large = costs(stores, WHOLE[what])
    assert large.within(2.2, small), (vars(small), vars(large))


@pytest.mark.parametrize("what", PART)
def test_what_shows_a_part_costs_the_same_in_a_store_of_twice_the_size(stores, what):
    small, large = costs(stores, reading(PART[what]))
    assert large.within(1.1, small), (vars(small), vars(large))


def test_a_coordinators_look_costs_the_same_however_many_wait(stores):
    def look(database):
        return pending(database, {1}, 3), overdue(database)

    small, large = costs(stores, look)
    assert large.within(1.1, small), (vars(small), vars(large))


def test_boards_of_as_many_protocols_as_checkpoints_are_told_apart_in_time(stores):
    with stores[0].read() as session:
        rows = queries.scores(session, SUITE)

    def own(count):
        each = [
            replace(row, model=f"m{place}", checkpoint_id=place, protocol=f"{place}", facts={"samples": place})
            for place in range(count)
            for row in rows[:3]
        ]
        cost = Cost()
        before = sys.getprofile()
        sys.setprofile(cost.call)
        try:
            assert len(ranking.boards(each, None, "all")) == count
        finally:
            sys.setprofile(before)
        return cost

    small, large = own(100), own(200)
    assert large.within(2.2, small), (vars(small), vars(large))


def test_an_unknown_name_is_compared_with_few_of_many_models(tmp_path):
    found = []
    for count in (300, 600):
        database = Database(f"sqlite:///{tmp_path}/{count}.db")
        fill(database, [f"model-{place:05}" for place in range(count)], range(0, 10, 10), 1)
        found.append(database)
    small, large = costs(found, reading(unknown))
    assert large.within(1.1, small), (vars(small), vars(large))
    with found[1].read() as session, pytest.raises(InputError, match="the nearest are model-00299@0"):
        names.find(session, "model-00299b")


def test_no_hot_question_scans_a_table_that_grows(database):
    fill(database, [f"model-{place:02}" for place in range(5)], range(0, 40, 10), 4)
    queue(database, 5)
    asked = []
    questions = [reading(ask) for ask in PART.values() if ask not in (unknown,)]
    questions += [
        lambda d: pending(d, {1}, 3),
        reading(lambda s: s.execute(paged_queries.models().order_by(Model.name).limit(10)).all()),
        reading(lambda s: progress(s, statuses=[Status.QUEUED], limit=10)),
        reading(paged_queries.stamp),
        reading(queries.suites),
        reading(lambda s: queries.last_scores(s, SUITE, "recall")),
        reading(
            lambda s: s.scalars(paged_queries.scores(SUITE, "model-01", label="recall").order_by(Score.id.desc())).all()
        ),
        reading(unknown),
    ]

    def note(connection, cursor, statement, parameters, context, many):
        asked.append((statement, parameters))

    event.listen(database.engine, "after_cursor_execute", note)
    for question in questions:
        question(database)
    event.remove(database.engine, "after_cursor_execute", note)
    with database.read() as session:
        connection = session.connection()
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.exec_driver_sql("SET enable_seqscan = off")  # tables of a test are too small for an index
        for statement, parameters in asked:
            if statement.lstrip().startswith(("SELECT", "WITH")):
                explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
                plan = [str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters)]
                assert not [step for step in plan if scans(step, statement)], (statement, plan)


def scans(step, statement):
    """Whether a step reads all rows of a table that grows; along an index, or until a page is full, is none."""
    if "LIMIT" in statement or "COVERING INDEX" in step:
        return False
    return any(f"{verb} {table}" in step for verb in ("SCAN", "Seq Scan on") for table in GROWING)


GROWING = [table.__tablename__ for table in (Checkpoint, Evaluation, Score, Protocol)]


def test_a_new_checkpoint_of_a_known_label_is_a_new_stamp(stores):
    """Its name, and so that of the one on the board, has a mark from then on."""
    with stores[0].write() as session:
        before = paged_queries.stamp(session)
        session.add(Checkpoint(model_id=1, step=0, digest="f" * 64, path="p", generator="gan", options={}))
        session.flush()
        assert paged_queries.stamp(session) != before
        session.rollback()


def test_a_score_that_comes_or_goes_is_a_new_stamp(stores):
    with stores[0].write() as session:
        before = paged_queries.stamp(session)
        session.execute(update(Evaluation).where(Evaluation.id == 1).values(status=Status.SUPERSEDED))
        assert paged_queries.stamp(session) != before
        session.rollback()
