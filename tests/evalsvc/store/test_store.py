import multiprocessing
import re
import sys
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from evalsvc.api.client import Client
from evalsvc.api.server.state import ServerSettings
from evalsvc.core.digests import digest_path, stamp_path
from evalsvc.core.errors import InputError, StorageError
from evalsvc.core.settings import Settings
from evalsvc.inputs.published_weights import weights_folder
from evalsvc.inputs.references import open_reference
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import Texts
from evalsvc.store import paged_queries, queries
from evalsvc.store import session as store
from evalsvc.store.names import find
from evalsvc.store.session import HEAD, Database, known_revisions
from evalsvc.store.tables import (
    Checkpoint,
    Evaluation,
    Gate,
    Model,
    Promotion,
    Protocol,
    Reference,
    Score,
    Status,
    Suite,
    Table,
)
from evalsvc.store.urls import parse_url, shown


def evaluation(session, status=Status.RUNNING):
    """The id of a new evaluation of the one checkpoint."""
    model = session.query(Model).first() or Model(name="m")
    session.add(model)
    session.flush()
    checkpoint = session.query(Checkpoint).first() or Checkpoint(
        model_id=model.id, step=1, digest="d", path="p", generator="g", options={}
    )
    suite = session.query(Suite).first() or Suite(name="s", version=1, digest="d", body={})
    session.add_all([checkpoint, suite])
    session.flush()
    row = Evaluation(checkpoint_id=checkpoint.id, suite_id=suite.id, fingerprint="f", status=status, spec={})
    session.add(row)
    session.flush()
    return row.id


def score(evaluation_id, value):
    facts = {"label": "x", "quantity": "x", "n": 1, "unit": "", "stderr_method": "", "details": {}, "position": 0}
    return Score(evaluation_id=evaluation_id, value=value, direction="lower", protocol_id="p", **facts)


def test_the_migrations_make_exactly_the_tables_of_the_code(database):
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_the_newest_migration_is_the_head_that_the_code_expects():
    assert max(known_revisions()) == HEAD


def test_opening_twice_changes_nothing(database, database_url):
    with database.write() as session:
        session.add(Model(name="kept"))
    with Database(database_url).read() as session:
        assert session.query(Model).one().name == "kept"


def test_a_database_with_results_is_migrated_and_keeps_them(database_url):
    Database(database_url).engine.dispose()
    engine = store._engine(database_url)
    before = """
        INSERT INTO models VALUES (1, 'm', '', '2026-01-02 00:00:00+00:00');
        INSERT INTO checkpoints VALUES (1, 1, 7, 'd', 'p', 'g', '{}', '2026-01-02 00:00:00+00:00');
        INSERT INTO suites VALUES (1, 's', 1, 'd', '{}', '2026-01-02 00:00:00+00:00');
        INSERT INTO evaluations (id, checkpoint_id, suite_id, fingerprint, status, spec, provenance, created_at)
            VALUES (1, 1, 1, 'f', 'succeeded', '{}', '{}', '2026-01-02 00:00:00+00:00');
        INSERT INTO shards (id, evaluation_id, kind, start, stop, path, seconds, finished_at)
            VALUES (1, 1, 'samples', 0, 5, 'p', 1.5, '2026-01-02 00:00:00+00:00');
        INSERT INTO promotions VALUES (1, 'production', 1, NULL, '2026-01-02 00:00:00+00:00');
        INSERT INTO promotions VALUES (2, 'staging', 1, NULL, '2026-01-02 00:00:00+00:00');
        INSERT INTO promotions VALUES (3, 'production', 1, NULL, '2026-01-02 00:00:00+00:00')"""
    with engine.begin() as connection:
        migrate_to(connection, "0002")
        for statement in before.split(";"):
            connection.execute(text(statement))
    engine.dispose()
    with Database(database_url, upgrade=True).read() as session:
        run = session.get_one(Evaluation, 1)
        assert (run.checkpoint.step, len(run.shards), run.attempt, run.on_queue) == (7, 1, 1, False)
        assert (run.device_seconds, run.energy) == (1.5, None)
        moves = session.query(Promotion).order_by(Promotion.id)
        assert [(move.kind, move.by) for move in moves] == [("first", ""), ("first", ""), ("set", "")]


def test_what_was_queued_with_a_deadline_keeps_it(database_url):
    opened = Database(database_url)
    with opened.write() as session:
        run = session.get_one(Evaluation, evaluation(session, Status.QUEUED))
        run.deadlines, asked_at = {"queued": 90.0}, run.requested_at
    with opened.engine.begin() as connection:
        migrate_to(connection, "0012")
    opened.engine.dispose()
    with Database(database_url, upgrade=True).read() as session:
        assert session.query(Evaluation).one().begin_by == asked_at + timedelta(seconds=90)


def test_what_clients_left_in_an_older_queue_stays_theirs(database_url):
    opened, upload = Database(database_url), f"/srv/uploads/{'a' * 64}/x_1.jsonl"
    kinds = [
        (upload, "gan", Status.QUEUED, True),
        ("/runs/served.json", "openai-compatible", Status.FAILED, True),
        ("/runs/served.json", "openai-compatible", Status.SUCCEEDED, False),
        ("/runs/x_1.pt", "gan", Status.FAILED, False),
    ]
    with opened.write() as session:
        for number, (path, generator, status, _) in enumerate(kinds):
            run = session.get_one(Evaluation, evaluation(session, status))
            facts = {"model_id": run.checkpoint.model_id, "step": 1, "digest": f"d{number}", "options": {}}
            run.checkpoint = Checkpoint(path=path, generator=generator, **facts)
    with opened.engine.begin() as connection:
        migrate_to(connection, "0013")
    opened.engine.dispose()
    with Database(database_url, upgrade=True).read() as session:
        assert [run.restricted for run in session.query(Evaluation).order_by(Evaluation.id)] == [
            restricted for *_, restricted in kinds
        ]


def test_scores_of_an_older_database_are_whole_and_a_downgrade_keeps_only_these(database_url):
    opened = Database(database_url)
    with opened.write() as session:
        run = evaluation(session, Status.SUCCEEDED)
        session.add(Protocol(id="p", facts={}))
        facts = {"evaluation_id": run, "quantity": "wer", "value": 1.0, "n": 9, "direction": "lower", "unit": "ratio"}
        facts |= {"stderr_method": "none", "details": {}, "protocol_id": "p"}
        session.add(Score(label="wer", position=0, **facts))
        session.add(Score(label="wer[lang=de]", position=1, slice_of="wer", **facts))
    with opened.read() as session:
        assert [row.label for row in queries.scores(session)] == ["wer"]
        assert [row.label for row in queries.slices(session, run, "wer")] == ["wer[lang=de]"]
        assert [row.label for row in queries.slices_by_score(session, run)["wer"]] == ["wer[lang=de]"]
        assert [row.label for row in queries.scores(session, label="wer[lang=de]")] == ["wer[lang=de]"]
        assert session.scalars(paged_queries.scores()).all() == [1]
    with opened.engine.begin() as connection:
        migrate_to(connection, "0016")
    opened.engine.dispose()
    with Database(database_url, upgrade=True).read() as session:
        assert [(row.label, row.slice_of) for row in session.query(Score)] == [("wer", None)]


def test_a_reference_of_an_older_database_is_read_as_before(database_url, tmp_path):
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["one", "two"], "label": [-5, 7]}), path)
    opened = Database(database_url)
    with opened.write() as session:
        digest = digest_path(path)
        row = Reference(name="mine", modality="text", path=str(path), digest=digest, stamp=stamp_path(path), count=2)
        session.add(row)
    with opened.engine.begin() as connection:
        migrate_to(connection, "0017")
    opened.engine.dispose()
    reference = open_reference(Database(database_url, upgrade=True), Plugins(), "mine")
    assert reference.digests == {"train": digest}
    assert reference.split("train").read(0, 2) == Texts(("one", "two"))


def migrate_to(connection, revision):
    config = Config()
    config.set_main_option("script_location", str(store.migrations()))
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


def open_it(url):
    Database(url).engine.dispose()


def test_processes_that_meet_an_empty_database_together_all_succeed(database_url):
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        pool.map(open_it, [database_url] * 3)


def test_a_database_newer_than_the_code_is_refused(database, database_url):
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="9999, which this evalsvc does not know: upgrade evalsvc"):
        Database(database_url)


def test_a_shared_database_is_only_migrated_when_asked(database, database_url, monkeypatch):
    monkeypatch.setattr(store, "HEAD", "9999")
    if database.engine.dialect.name == "postgresql":
        with pytest.raises(StorageError, match="run 'evalsvc db upgrade'"):
            Database(database_url)
    Database(database_url, upgrade=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_never_stored(database, value):
    with database.write() as session:
        session.add(Protocol(id="p", facts={}))
        number = evaluation(session)
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(score(number, value))


def test_one_fingerprint_is_in_progress_at_most_once(database):
    with database.write() as session:
        evaluation(session)
    with pytest.raises(IntegrityError), database.write() as session:
        evaluation(session, Status.QUEUED)


def test_a_failed_fingerprint_may_be_tried_again(database):
    with database.write() as session:
        evaluation(session, Status.FAILED)
        evaluation(session, Status.FAILED)
        evaluation(session, Status.RUNNING)


def test_times_come_back_in_utc(database):
    with database.write() as session:
        session.add(Model(name="m"))
    with database.read() as session:
        assert session.query(Model).one().created_at.utcoffset().total_seconds() == 0


def test_a_reader_sees_whole_transactions_and_waits_for_none(database):
    with database.write() as writer:
        writer.add(Model(name="unfinished"))
        writer.flush()
        with database.read() as reader:
            assert reader.query(Model).count() == 0
    with database.read() as reader:
        assert reader.query(Model).count() == 1


BAD_URLS = ["nonsense", "mysql://localhost/x", "postgresql://nobody@127.0.0.1:1/none"]
BAD_URLS += ["postgresql://user:hunter2@127.0.0.1:port/none", "sqlite:////dev/null/rows.db", f"sqlite:///{__file__}"]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_is_one_clear_error(url):
    with pytest.raises((InputError, StorageError)) as caught:
        Database(url)
    assert not re.search(r"\n|Traceback|hunter2", str(caught.value))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgres+asyncpg", "POSTGRES"])
def test_every_spelling_of_postgres_is_the_same_database(scheme):
    url = parse_url(f"{scheme}://u:p%40ss%25w@h:5433/a%20b?sslmode=require")
    assert (url.drivername, url.password, url.database) == ("postgresql+psycopg", "p@ss%w", "a b")
    assert shown(url) == "postgresql+psycopg://u:***@h:5433/a b?sslmode=require"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter@2@h/x",
        "postgresql://u@127.0.0.1:1/x?password=hunter2",
        "postgresql://u:hunter2@127.0.0.1:1/x?hunter2=1",
        "mysql://u:hunter2@h/x",
        "hunter2",
    ],
)
def test_no_message_shows_a_password(url):
    with pytest.raises((InputError, StorageError)) as caught:
        Database(url)
    assert "hunter" not in str(caught.value).replace('"hunter2"', "")


def test_a_setting_that_is_none_names_its_variable(monkeypatch):
    monkeypatch.setenv("EVALSVC_DEAD_AFTER", "soon")
    with pytest.raises(InputError, match="EVALSVC_DEAD_AFTER: Input should be a valid number.*, not 'soon'"):
        Settings()


@pytest.mark.parametrize("value", ["", " ", "\t"])
@pytest.mark.parametrize("name", ["EVALSVC_DATABASE_URL", "EVALSVC_HOME", "EVALSVC_ARTIFACTS", "evalsvc_heartbeat"])
def test_a_setting_that_is_set_and_empty_is_no_default(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"environment variable {name} is set but empty"):
        Settings()


def test_what_is_read_outside_the_settings_heeds_no_empty_variable_either(monkeypatch):
    for name, read in {
        "EVALSVC_ALLOWED_HOSTS": ServerSettings,
        "EVALSVC_TOKEN": lambda: Client("http://localhost"),
        "EVALSVC_SERVER": Client,
        "EVALSVC_WEIGHTS_DIR": weights_folder,
    }.items():
        monkeypatch.setenv(name, "")
        with pytest.raises(InputError, match=f"environment variable {name} is set but empty"):
            read()
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["a b", "what?v=2", "100%done", "ünï#1"])
def test_a_home_of_any_name_holds_its_own_database(tmp_path, name):
    Database(Settings(home=tmp_path / name).database).engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "evalsvc.db").is_file()


def test_a_missing_driver_is_one_sentence_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for scheme in ("postgres", "postgresql", "postgresql+psycopg2"):
        with pytest.raises(StorageError, match=re.escape("pip install 'evalsvc[postgres]'")):
            Database(f"{scheme}://u:p@127.0.0.1:1/x")


@pytest.mark.parametrize("name", ["EVALSVC_DATABASE_URI", "EVALSVC_DATABSE_URL", "EVALSVC_ARTEFACTS"])
def test_a_misspelt_variable_is_an_error_and_never_the_default(monkeypatch, name):
    monkeypatch.setenv(name, "postgresql://team/scores")
    with pytest.raises(InputError, match=f"{name} is unknown: did you mean EVALSVC_"):
        Settings()


@pytest.mark.parametrize("name", ["EVALSVC_TOKEN", "EVALSVC_SERVER", "EVALSVC_WEIGHTS_DIR", "EVALSVC_BROWSER_TESTS"])
def test_variables_of_other_parts_are_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "x")
    assert Settings().database.startswith("sqlite")


@pytest.mark.parametrize("name", ["flow@²", f"flow@{2**63}"])
def test_a_step_that_no_database_holds_names_no_checkpoint(database, name):
    with database.read() as session, pytest.raises(InputError, match="the step after '@' must be an integer"):
        find(session, name)


def test_a_password_never_shows_in_an_error():
    with pytest.raises(StorageError) as caught:
        Database("postgresql://user:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(caught.value)


def test_configurations_of_before_become_rows_of_their_own_and_keep_every_score(database_url):
    Database(database_url).engine.dispose()
    engine = store._engine(database_url)
    day = "'2026-01-02 00:00:00+00:00'"

    def run(number, status, options, score):
        spec = f'{{"generator": "dial", "generator_version": "p 1", "options": {options}, "seed": 1}}'
        return f"""
        INSERT INTO evaluations (id, checkpoint_id, suite_id, fingerprint, status, spec, provenance, created_at,
            attempt, priority, on_queue, fresh, deadlines, work, device_seconds, requested_at)
            VALUES ({number}, 1, 1, 'f{number}', '{status}', '{spec}', '{{}}', {day}, 1, 10, false, false, '{{}}',
            '{{}}', 0, {day});
        INSERT INTO scores (evaluation_id, position, label, quantity, value, n, direction, unit, stderr_method, details,
            protocol_id) VALUES ({number}, 0, 'x', 'x', {score}, 1, 'lower', '', '', '{{}}', 'p')"""

    before = f"""
        INSERT INTO models VALUES (1, 'm', '', {day});
        INSERT INTO checkpoints (id, model_id, step, digest, path, generator, options, created_at)
            VALUES (1, 1, 7, '{"d" * 64}', 'p', 'dial', '{{"noise": 0}}', {day}),
                (2, 1, 8, '{"e" * 64}', 'p', 'dial', '{{}}', {day});
        INSERT INTO suites VALUES (1, 's', 1, 'd', '{{}}', {day});
        INSERT INTO protocols VALUES ('p', '{{}}');
        INSERT INTO aliases VALUES ('production', 1, {day});
        INSERT INTO gates (suite, model, step, digest, baseline, policy_digest, policy, status, exit_code, shadow,
            evidence, verdict, created_at)
            VALUES ('s@1', 'm', 7, '{"d" * 64}', '', 'p', '{{}}', 'PASS', 0, false, '{{}}', '{{}}', {day});
        {run(1, "succeeded", '{"noise": 200}', 204.0)};
        {run(2, "succeeded", '{"noise": 0}', 2.0)};
        {run(3, "failed", '{"noise": 200}', 9.0)}"""
    with engine.begin() as connection:
        migrate_to(connection, "0008")
        for statement in before.split(";"):
            connection.exec_driver_sql(statement)
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT setval('checkpoints_id_seq', 2)")
    engine.dispose()
    with Database(database_url, upgrade=True).read() as session:
        rows = {row.id: row for row in queries.checkpoints(session)}
        assert {row.options.get("noise", "none") for row in rows.values()} == {0, 200, "none"}
        assert {run.id: rows[run.checkpoint_id].options["noise"] for run in session.query(Evaluation)} == {
            1: 200,
            2: 0,
            3: 200,
        }
        assert {row.name: row.value for row in queries.scores(session)} == {
            "m@7[noise=200]": 204.0,
            "m@7[noise=0]": 2.0,
        }
        assert find(session, "production").options == {"noise": 0}
        assert session.query(Gate).one().checkpoint_id == find(session, "production").id
        assert session.execute(text("SELECT count(*) FROM scores")).scalar_one() == 3
