import contextlib
import signal
import time

import pytest
from sqlalchemy import select

from evalsvc.core.deadline import Deadline, deadline, uninterrupted
from evalsvc.store.session import Database
from evalsvc.store.tables import Suite


def spin(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


class SlowToGo:
    def __del__(self):
        spin(0.05)


def ring_in_a_finalizer():
    thing = SlowToGo()
    del thing


@pytest.fixture(autouse=True)
def nothing_rings_afterwards():
    yield
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_block_in_time_is_left_alone():
    with deadline(60):
        pass
    with deadline(None):
        pass


def test_a_block_that_takes_too_long_is_interrupted_where_it_stands_and_takes_it_for_no_error_of_its_own():
    def patient():
        try:
            time.sleep(60)
        except Exception:
            pytest.fail("a deadline is no error of a plug-in")

    with pytest.raises(Deadline, match=r"timed out after 0\.01 s"), deadline(0.01):
        patient()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_alarm_that_python_dropped_in_a_finalizer_rings_again():
    def block():
        ring_in_a_finalizer()
        time.sleep(60)

    with pytest.raises(Deadline), deadline(0.01):
        block()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_block_that_ends_after_a_dropped_alarm_is_late():
    with pytest.raises(Deadline), deadline(0.01):
        ring_in_a_finalizer()


def test_a_plug_in_that_swallows_everything_is_interrupted_again():
    def careless():
        with contextlib.suppress(BaseException):
            time.sleep(60)
        time.sleep(60)

    with pytest.raises(Deadline), deadline(0.01):
        careless()


def test_what_cleans_up_after_the_deadline_is_left_in_peace():
    cleaned = []

    def block():
        try:
            time.sleep(60)
        finally:
            try:
                raise KeyError
            except KeyError:
                spin(0.3)
            cleaned.append(True)

    with pytest.raises(Deadline), deadline(0.01):
        block()
    assert cleaned


def test_a_transaction_is_finished_first(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/rows.db")
    read = []

    def writing():
        with database.write() as session:
            session.add(Suite(name="ours", version=1, digest="x", body={}))
            spin(0.3)
        time.sleep(60)

    def reading():
        with database.read() as session:
            spin(0.3)
            read.extend(session.scalars(select(Suite.name)))
        time.sleep(60)

    for block in (writing, reading):
        with pytest.raises(Deadline), deadline(0.01):
            block()
    assert read == ["ours"]


def test_a_block_that_ends_with_a_transaction_in_which_it_rang_is_late():
    with pytest.raises(Deadline), deadline(0.01), uninterrupted():
        spin(0.05)


def test_a_limit_beyond_all_time_is_none():
    with deadline(float("inf")):
        pass
