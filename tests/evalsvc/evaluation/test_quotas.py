"""Quotas of tokens: what is refused says which and when it ends, and what is under way goes on."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from evalsvc.core.cost import Cost
from evalsvc.core.errors import InputError, QuotaError
from evalsvc.evaluation import attempts, lifecycle, quotas
from evalsvc.inputs.server_file import server_file
from evalsvc.store import audit
from evalsvc.store.audit import Actor
from evalsvc.store.session import clock
from evalsvc.store.tables import ActorKind, Evaluation, QuotaUse, UploadUse
from tests.evalsvc.evaluation.test_lifecycle import spec, start

CI = Actor(ActorKind.TOKEN, "ci", 1)


@pytest.fixture
def limits(tmp_path, monkeypatch):
    def write(text):
        (tmp_path / "server.yaml").write_text(f"limits: {text}\n")
        monkeypatch.setenv("EVALSVC_SERVER_FILE", str(tmp_path / "server.yaml"))

    return write


def submit(database, number, actor=CI, **options):
    with audit.acting(actor):
        return lifecycle.submit(database, spec(f"{number:064d}"), **options)


def test_so_many_evaluations_of_a_token_wait(database, limits):
    limits("{default: {queued: 2}}")
    first, _ = submit(database, 1), submit(database, 2)
    with pytest.raises(
        QuotaError, match=r"quota queued of token 'ci' is used up \(2 evaluations are waiting\): it ends when"
    ):
        submit(database, 3)
    assert not submit(database, 1).created  # what is there already takes no place
    submit(database, 3, Actor(ActorKind.TOKEN, "other", 2))
    submit(database, 4, Actor(ActorKind.USER, "ci"))
    start(database, first.id)
    assert submit(database, 5).created


def test_a_retry_takes_a_place_of_whoever_retries(database, limits):
    limits("{default: {queued: 1}}")
    first = submit(database, 1)
    lifecycle.cancel(database, first.id)
    submit(database, 2)
    with audit.acting(CI), pytest.raises(QuotaError, match="quota queued of token 'ci'"):
        lifecycle.retry(database, first.id)
    with audit.acting(Actor(ActorKind.TOKEN, "other", 2)):
        lifecycle.retry(database, first.id)


def test_who_asks_at_once_gets_no_place_more(database, limits):
    limits("{default: {queued: 3}}")

    def ask(number):
        try:
            return submit(database, number).created
        except QuotaError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 3


def test_device_time_of_a_day_is_counted_for_the_token_that_asked(database, limits):
    limits("{tokens: {ci: {device_seconds_a_day: 5}}}")
    run = submit(database, 1)
    attempt = start(database, run.id)
    for number in range(2):
        cost = Cost(3.0)
        attempts.record_shard(database, attempt, kind="samples", start=number, stop=number + 1, path="p", cost=cost)
    with pytest.raises(
        QuotaError, match=r"device_seconds_a_day of token 'ci' is used up \(6 of 5 sec.*00:00 UTC"
    ) as no:
        submit(database, 2)
    assert 0 < no.value.retry_after <= 86401
    assert pickle.loads(pickle.dumps(no.value)).retry_after == no.value.retry_after
    submit(database, 2, Actor(ActorKind.TOKEN, "other", 2))
    with database.write() as session:  # a day passes
        session.get_one(QuotaUse, ("ci", clock(session).date().isoformat())).day = "2026-01-01"
    assert submit(database, 3).created


def upload(database, size, folder, token="ci", announced=0, digest=None):
    with database.write() as session:
        number = quotas.begin_upload(session, token, announced, folder)
    with database.write() as session:
        quotas.count_upload(session, number, token, size)
    with database.write() as session:
        quotas.end_upload(session, number, digest)
    if digest:
        (folder / digest).mkdir(exist_ok=True)


def test_uploads_are_counted_for_the_day_and_for_as_long_as_they_are_kept(database, limits, tmp_path):
    limits("{default: {uploads_a_day: 10KB, uploads_kept: 4KB}}")
    upload(database, 3000, tmp_path, digest="a" * 64)
    upload(database, 900, tmp_path, digest="a" * 64)  # the same again is kept once
    with pytest.raises(QuotaError, match=r"uploads_kept of token 'ci' is used up \(3000 of 4000 bytes .*sweep"):
        upload(database, 1500, tmp_path, digest="b" * 64)
    upload(database, 1500, tmp_path, "other", digest="b" * 64)
    (tmp_path / ("a" * 64)).rmdir()  # swept
    upload(database, 3500, tmp_path, digest="c" * 64)
    (tmp_path / ("c" * 64)).rmdir()
    with pytest.raises(QuotaError, match=r"uploads_a_day of token 'ci' is used up \(7400 of 10000 bytes\).*00:00 UTC"):
        upload(database, 0, tmp_path, announced=2601)


def test_an_upload_under_way_counts_and_one_that_was_cut_off_is_forgotten(database, limits, tmp_path):
    limits("{default: {uploads_kept: 4KB}}")
    with database.write() as session:
        number = quotas.begin_upload(session, "ci", 0, tmp_path)
        quotas.count_upload(session, number, "ci", 3000)
    with pytest.raises(QuotaError, match="uploads_kept"):
        upload(database, 2000, tmp_path, digest="a" * 64)
    with database.write() as session:
        session.get_one(UploadUse, number).created_at -= timedelta(days=2)
    upload(database, 2000, tmp_path, digest="a" * 64)


def test_a_quota_that_is_misspelt_is_an_error_that_names_it(limits):
    limits("{default: {queue: 2}}")
    with pytest.raises(InputError, match=r"server.yaml: limits.default.queue: unknown key"):
        server_file()
    limits("{default: {queued: -1}}")
    with pytest.raises(InputError, match=r"limits.default.queued"):
        server_file()


def test_without_limits_nothing_is_refused_and_a_name_overrides_single_limits(limits, database):
    assert submit(database, 1).created
    with database.read() as session:
        assert session.query(Evaluation.token).scalar() == "ci"
    limits("{default: {queued: 2, uploads_kept: 1MB}, tokens: {ci: {queued: null}}}")
    assert server_file().limits.of("ci") == quotas.Quota(uploads_kept=1_000_000)
