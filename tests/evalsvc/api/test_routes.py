"""What the routes answer: pages, problems, scores, promotion."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from evalsvc.analysis.leaderboard import boards
from evalsvc.api import schemas
from evalsvc.api.server import leaderboard_stream, serializers
from evalsvc.store import queries, tables
from evalsvc.store.session import HEAD
from evalsvc.store.tables import Failure, Status
from tests.evalsvc.gates.store import add_checkpoint, add_scores, point

API = "/api/v1"


def pages(client, path, **params):
    """All pages of a list."""
    found, cursor = [], None
    while True:
        answer = client.get(API + path, params=params | ({"cursor": cursor} if cursor else {})).json()
        found.append(answer["items"])
        cursor = answer["next"]
        if cursor is None:
            return found


@pytest.mark.parametrize(
    ("path", "key", "order"),
    [("/models", "name", 1), ("/checkpoints", "id", -1), ("/evaluations", "id", -1), ("/scores", "value", 0)],
)
def test_pages_hold_everything_once_in_order(client, server, path, key, order):
    with server.database.write() as session:
        for number in range(7):
            add_scores(session, add_checkpoint(session, f"m{number}", 1), {"frechet_distance": float(number)})
    found = pages(client("read"), path, limit=3)
    assert [len(page) for page in found] == [3, 3, 1]
    values = [item[key] for page in found for item in page]
    assert len(set(values)) == 7
    if order:
        assert values == sorted(values, reverse=order < 0)


def test_rows_that_come_in_between_shift_no_page(client, server):
    reader = client("read")
    with server.database.write() as session:
        for step in range(4):
            add_checkpoint(session, "m", step)
    first = reader.get(f"{API}/checkpoints", params={"limit": 2}).json()
    with server.database.write() as session:
        add_checkpoint(session, "m", 9)
    second = reader.get(f"{API}/checkpoints", params={"limit": 2, "cursor": first["next"]}).json()
    assert [item["step"] for item in first["items"] + second["items"]] == [3, 2, 1, 0]


def test_a_cursor_that_was_never_given_out_is_refused(client, filled):
    reader = client("read")
    for cursor in ["AAAA", "bnVsbA", "dHJ1ZQ", "LTE", "W1tbW1s", "Im5hbWUi", "MS41"]:
        answer = reader.get(f"{API}/evaluations", params={"cursor": cursor})
        assert answer.status_code == 400, cursor
        assert "omit it to start over" in answer.json()["detail"]


def test_errors_are_problem_documents(client, filled):
    submitter = client("submit")
    for answer, status, detail in [
        (submitter.get(f"{API}/nothing"), 404, "unknown path: see /api/v1/openapi.json"),
        (submitter.patch(f"{API}/models"), 405, "PATCH is not allowed here"),
        (submitter.get(f"{API}/evaluations/99"), 404, "there is no evaluation 99"),
        (submitter.get(f"{API}/comparison?a=flow&b=nobody"), 404, "there is no checkpoint 'nobody'; the nearest are"),
        (submitter.get(f"{API}/leaderboard?suite=faces@1"), 404, "nothing has been scored under suite 'faces@1'"),
        (submitter.get(f"{API}/leaderboard?metric=speed"), 422, "suite digits@1 has no score 'speed'"),
        (submitter.get(f"{API}/models?limit=0"), 422, "query/limit: Input should be greater than or equal to 1"),
        (submitter.post(f"{API}/evaluations", content=b"{", headers={"content-type": "application/json"}), 422, "JSON"),
        (submitter.post(f"{API}/evaluations", json={"pth": "/x"}), 422, "pth"),
        (submitter.post(f"{API}/evaluations", content=b"[" * 100_000), 422, ""),
        (submitter.post(f"{API}/evaluations", content=b" " * 2**21), 413, "the request body exceeds the limit of"),
        (submitter.post(f"{API}/evaluations", content=(b" " * 2**19 for _ in range(4))), 413, ""),
        (submitter.post(f"{API}/evaluations/{filled.evaluation}/cancel"), 409, "its status is succeeded"),
        (submitter.post(f"{API}/evaluations/{filled.evaluation}/retry"), 409, "has succeeded"),
    ]:
        body = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, body["status"]) == (status, status), body
        assert detail in str(body), body
        assert body["type"].startswith("urn:evalsvc:problem:")
        assert "Traceback" not in answer.text


def test_an_unexpected_error_tells_nothing_of_the_inside(app, client, monkeypatch):
    monkeypatch.setattr("evalsvc.store.paged_queries.models", lambda: 1 / 0)
    answer = client("read", raise_server_exceptions=False).get(f"{API}/models")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "division" not in answer.text


def test_a_database_that_is_away_is_503_and_the_process_still_lives(app, client, server, monkeypatch, caplog):
    reader = client("read")

    class Away:
        def begin(self):
            raise OperationalError("SELECT 1", {}, Exception("connection refused"))

    monkeypatch.setattr(server.database, "_read", Away())
    assert reader.get("/healthz").status_code == 200
    for path in ("/readyz", f"{API}/models"):
        answer = reader.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "the database does not respond (connection refused)" in caplog.text
    assert "SELECT" not in caplog.text, "statements hold what clients sent"


def test_a_server_whose_database_was_upgraded_beneath_it_is_not_ready(client, server):
    reader = client("read")
    assert reader.get("/readyz").status_code == 200
    with server.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    answer = reader.get("/readyz")
    assert answer.status_code == 503
    assert f"revision 9999 but this server needs {HEAD}" in answer.json()["detail"]


def test_an_evaluation_shows_its_scores_and_artifacts(client, filled):
    found = client("read").get(f"{API}/evaluations/{filled.evaluation}").json()
    assert (found["model"], found["step"], found["suite"], found["status"]) == ("flow", 9, "digits@1", "succeeded")
    assert {score["label"]: score["value"] for score in found["scores"]} == {"frechet_distance": 12.0, "recall": 0.8}
    assert [artifact["kind"] for artifact in found["artifacts"]] == ["gallery"]


def test_scores_are_filtered(client, filled):
    reader = client("read")

    def values(**params):
        return sorted(item["value"] for item in reader.get(f"{API}/scores", params=params).json()["items"])

    assert values(label="recall") == [0.7, 0.8]
    assert values(step=9) == [0.8, 12.0]
    assert values(suite="digits", model="flow", label="recall", step=1) == [0.7]
    assert values(suite="digits@2") == values(model="gan") == []


def test_a_leaderboard_changes_its_tag_when_scores_come(client, filled, server):
    reader = client("read")
    first = reader.get(f"{API}/leaderboard", params={"which": "all"})
    assert [entry["step"] for entry in first.json()[0]["entries"]] == [9, 1]
    again = reader.get(f"{API}/leaderboard?which=all", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert reader.get(f"{API}/leaderboard").headers["etag"] != first.headers["etag"]
    with server.database.write() as session:
        add_scores(session, add_checkpoint(session, "gan", 3), {"frechet_distance": (1.0, 0.1)})
    other = reader.get(f"{API}/leaderboard?which=all", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200
    assert other.json()[0]["entries"][0]["model"] == "gan"


def test_two_checkpoints_are_compared(client, filled):
    found = client("read").get(f"{API}/comparison", params={"a": "production", "b": "flow"}).json()
    assert (found["a"], found["b"]) == ("flow@1", "flow@9")
    assert found["differences"][0]["difference"] == pytest.approx(-4)
    assert found["differences"][0]["verdict"] == "better"
    alone = {"a": "production", "b": "flow", "label": "frechet_distance"}
    assert client("read").get(f"{API}/comparison", params=alone).json()["differences"] == [
        each for each in found["differences"] if each["label"] == "frechet_distance"
    ]
    assert client("read").get(f"{API}/comparison", params=alone | {"label": "recall[worst]"}).status_code == 404


def test_a_gate_under_the_pinned_policy_that_this_checkpoint_has_passed_promotes_it(client, filled, server):
    submitter = client("submit")
    answer = submitter.put(f"{API}/aliases/production", json={"checkpoint": "flow@9", "gate": filled.gate})
    assert (answer.status_code, answer.json()["checkpoint"]["step"]) == (200, 9)
    assert submitter.get(f"{API}/aliases/production").json()["checkpoint"]["id"] == filled.checkpoint
    with server.database.read() as session:
        assert session.query(tables.Promotion).one().gate_id == filled.gate
    [move] = submitter.get(f"{API}/aliases/production/history").json()["items"]
    assert (move["kind"], move["gate"], move["by"], move["checkpoint"]["step"]) == ("gate", filled.gate, "test", 9)


def test_without_one_promotion_takes_an_admin_and_a_reason(client, filled, server):
    submitter, admin = client("submit"), client("admin")
    alias = f"{API}/aliases/production"
    assert submitter.put(alias, json={"checkpoint": "flow@9"}).status_code == 403
    assert submitter.put(alias, json={"checkpoint": "flow@1", "reason": "mine"}).status_code == 403
    assert submitter.put(alias, json={"checkpoint": "flow@1", "gate": filled.gate}).status_code == 409
    assert submitter.put(alias, json={"checkpoint": "flow@9", "gate": 99}).status_code == 404
    assert admin.put(alias, json={"checkpoint": "flow@9"}).status_code == 409
    never = admin.put(alias, json={"checkpoint": "flow@9", "reason": "I say so"})
    assert (never.status_code, "never pointed to flow@9" in never.json()["detail"]) == (409, True)
    with server.database.write() as session:
        point(session, "production", session.get_one(tables.Checkpoint, 1))
        session.get_one(tables.Gate, filled.gate).status = "FAIL"
    refused = submitter.put(alias, json={"checkpoint": "flow@9", "gate": filled.gate})
    assert "only a passed gate can move an alias" in refused.json()["detail"]
    assert submitter.get(alias).json()["checkpoint"]["step"] == 1


def test_a_policy_of_ones_own_moves_no_alias(client, filled, server):
    """Scope submit brings a policy that anything passes; protected or not, the alias stays."""
    submitter, admin = client("submit"), client("admin")
    lax = {
        "version": 1,
        "suite": "digits@1",
        "metrics": {"frechet_distance": {"max": 1e9}},
        "defaults": {"min_samples": 1},
    }
    made = submitter.post(f"{API}/gates", json={"policy": lax, "candidate": "flow@9"}).json()
    assert made["status"] == "PASS"
    wanted = {"checkpoint": "flow@9", "gate": made["id"]}
    refused = submitter.put(f"{API}/aliases/production", json=wanted)
    assert (refused.status_code, "is protected by policy pppppppppppp" in refused.json()["detail"]) == (409, True)
    assert submitter.put(f"{API}/aliases/staging", json=wanted).status_code == 403
    assert admin.put(f"{API}/aliases/staging", json=wanted).status_code == 200
    shadow = submitter.post(f"{API}/gates", json={"policy": lax, "candidate": "flow@9", "shadow": True}).json()
    assert admin.put(f"{API}/aliases/staging", json=wanted | {"gate": shadow["id"]}).status_code == 409
    pinned = f"{API}/aliases/staging/protection"
    assert submitter.get(pinned).status_code == 404
    assert submitter.put(pinned, json={"policy": lax}).status_code == 403
    assert admin.put(pinned, json={"policy": lax | {"metrics": {"speed": {"max": 1}}}}).status_code == 422
    assert admin.put(pinned, json={"policy": lax | {"suite": "mine.yaml"}}).status_code == 422
    protected = admin.put(pinned, json={"policy": lax}).json()
    assert (protected["policy_digest"], protected["by"]) == (made["policy_digest"], "test")
    assert submitter.get(f"{API}/aliases/staging").json()["protected_by"] == made["policy_digest"]
    assert submitter.put(f"{API}/aliases/staging", json=wanted).status_code == 409, "older than the last move"
    again = submitter.post(f"{API}/gates", json={"policy": lax, "candidate": "flow@9"}).json()
    assert submitter.put(f"{API}/aliases/staging", json=wanted | {"gate": again["id"]}).status_code == 200
    assert submitter.delete(pinned).status_code == 403
    assert [admin.delete(pinned).status_code for _ in range(2)] == [204, 404]


def test_shipped_suites_and_those_that_were_used_are_listed(client, filled):
    reader = client("read")
    assert {"digits@1", "fid50k@1"} <= {suite["id"] for suite in reader.get(f"{API}/suites").json()["items"]}
    assert reader.get(f"{API}/suites/digits@1").json()["body"]["samples"] == 2000


def test_metrics_have_labels_of_few_values(client, filled, server):
    with server.database.write() as session:
        failed = add_scores(session, add_checkpoint(session, "x", 1), {}, seed=5, status=Status.FAILED, error="x")
        failed.failure = Failure.OUT_OF_MEMORY
    reader = client("read")
    for number in range(20):
        reader.get(f"{API}/evaluations/{number + 1}")
        reader.get(f"/whatever/{number}")
        reader.request(f"M{number}", f"{API}/models")
    assert client().get("/metrics").status_code == 401
    text = reader.get("/metrics").text
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    stock = {tuple(sample.labels.values()): sample.value for sample in families["evalsvc_evaluations"]}
    assert (stock["succeeded",], stock["failed",], stock["queued",]) == (2, 1, 0)
    failures = {sample.labels["failure"]: sample.value for sample in families["evalsvc_failed_evaluations"]}
    assert failures["out_of_memory"] == 1
    routes = {sample.labels["route"] for sample in families["evalsvc_http_requests"]}
    assert "/api/v1/evaluations/{id}" in routes
    assert "unmatched" in routes
    assert len(routes) <= 5
    assert len(families["evalsvc_http_requests"]) < 25


def test_an_ambiguous_name_is_a_conflict_that_lists_what_chooses(server, client, filled):
    with server.database.write() as session:
        for digest, noise in (("a", 0), ("a", 200), ("b", 0)):
            add_scores(session, add_checkpoint(session, "m", 1, digest * 64, {"noise": noise}), {"recall": 0.5})
    asking = client("admin")
    policy = {"version": 1, "suite": "digits@1", "metrics": {"recall": {"min": 0.4}}}
    name = {"name": "m@1"}
    for answer in (
        asking.get("/api/v1/checkpoints", params=name),
        asking.get("/api/v1/comparison", params={"a": "m@1", "b": "flow@5"}),
        asking.put("/api/v1/aliases/best", json={"checkpoint": "m@1"}),
        asking.post("/api/v1/evaluations", json={"checkpoint": "m@1", "suite": "digits@1"}),
        asking.post("/api/v1/gates", json={"policy": policy, "candidate": "m@1"}),
    ):
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:evalsvc:problem:ambiguous-name"
        choices = answer.json()["choices"]
        assert choices == ["m@1#aaaaaaaa[noise=0]", "m@1#aaaaaaaa[noise=200]", "m@1#bbbbbbbb"]
    for choice in choices:
        [found] = asking.get("/api/v1/checkpoints", params={"name": choice}).json()["items"]
        assert f"m@1{found['mark']}" == choice
        compared = asking.get("/api/v1/comparison", params={"a": choice, "b": choice}).json()
        assert (compared["a"], compared["b"]) == (choice, choice)
        pointed = asking.put("/api/v1/aliases/best", json={"checkpoint": choice}).json()
        assert pointed["checkpoint"]["id"] == found["id"]
        judged = asking.post("/api/v1/gates", json={"policy": policy, "candidate": choice}).json()
        assert judged["candidate"]["checkpoint_id"] == found["id"]
        assert judged["candidate"]["name"] == choice
    marks = {each["mark"] for each in asking.get("/api/v1/evaluations").json()["items"] if each["model"] == "m"}
    assert {f"m@1{mark}" for mark in marks} == set(choices)
    [board] = asking.get("/api/v1/leaderboard", params={"metric": "recall"}).json()
    assert {f"m@1{each['mark']}" for each in board["entries"] if each["model"] == "m"} == set(choices)


def test_scores_are_had_by_the_digits_of_a_digest_and_of_a_configuration(server, client, filled):
    with server.database.write() as session:
        for noise in (0, 200):
            row = add_checkpoint(session, "m", 1, "a" * 64, {"noise": noise})
            add_scores(session, row, {"recall": 0.5})
    asking = client("read")
    assert len(asking.get("/api/v1/scores", params={"digest": "a" * 8}).json()["items"]) == 2
    of = {"digest": "a" * 64, "configuration": row.configuration[:8]}
    [score] = asking.get("/api/v1/scores", params=of).json()["items"]
    assert (score["checkpoint_id"], score["mark"]) == (row.id, "[noise=200]")
    assert asking.get("/api/v1/scores", params={"digest": "%"}).status_code == 422


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"policy":' + b"[" * 15_000 + b"]" * 15_000 + b"}", "the body is nested too deeply"),
        (b'{"policy":{"a":' + b"[" * 30 + b"]" * 30 + b"}}", "is nested more than 20 levels deep"),
        (b'{"policy":{"a":' + b"9" * 5000 + b"}}", "the body contains a number with too many digits"),
        (b'{"policy":{"a":' + b"9" * 30 + b"}}", "contains an integer of more than 64 bits"),
        (b'{"policy":{"a":[' + b"0," * 20_000 + b"0]}}", "the body has more than 20000 values"),
        (b'{"policy":"\xff"}', "the body is not UTF-8 text"),
        (b'{"policy":{"a":1e999}}', "contains a number that is not finite"),
    ],
)
def test_a_body_that_no_parser_holds_is_422_in_one_sentence(client, body, detail):
    answer = client("submit").post("/api/v1/gates", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert detail in answer.text


def test_a_long_leaderboard_comes_in_pieces_and_says_the_same(client, filled, server, monkeypatch):
    with server.database.write() as session:
        for step in range(10, 17):
            add_scores(session, add_checkpoint(session, "gan", step), {"frechet_distance": (step, 1.0), "n": step})
        add_scores(session, add_checkpoint(session, "vae", 1), {"frechet_distance": 1.0, "x": 2.0}, protocol="other")
        add_scores(session, add_checkpoint(session, "ae", 1), {"recall": 0.5})
    reader = client("read")
    whole = reader.get(f"{API}/leaderboard?which=all")
    assert "content-length" in whole.headers
    with server.database.read() as session:
        rows = queries.scores(session, "digits@1")
        expected = boards(rows, None, "all")
        assert boards(queries.last_scores(session, "digits@1")) == boards(rows)
    server.boards._kept.clear()
    monkeypatch.setattr(leaderboard_stream, "ENTRIES", 2)
    for answer in (whole, reader.get(f"{API}/leaderboard?which=all"), reader.get(f"{API}/leaderboard?which=all")):
        assert answer.headers["etag"] == whole.headers["etag"]
        assert ("content-length" in answer.headers) == (answer is whole)
        said = [schemas.Board.model_validate(board) for board in answer.json()]
        assert [(len(board.entries), board.suite) for board in said] == [(1, "digits@1"), (9, "digits@1")]
        for board, meant in zip(said, expected, strict=True):
            assert [schemas.Column.model_validate(column) for column in meant.columns] == board.columns
            assert board.ranked_by == board.columns[0]
            for entry, own in zip(board.entries, meant.entries, strict=True):
                assert entry.scores == [serializers.score(row) for row in own.scores.values()]
                assert [getattr(entry, name) for name in leaderboard_stream.HEAD] == [
                    getattr(own, name) for name in leaderboard_stream.HEAD
                ]
        assert answer.json()[0]["entries"][0].keys() == schemas.Entry.model_fields.keys()
        assert answer.json()[0]["entries"][0]["scores"][0].keys() == schemas.Score.model_fields.keys()


def test_a_slow_reader_of_a_leaderboard_holds_no_transaction(filled, server, monkeypatch):
    monkeypatch.setattr(leaderboard_stream, "ENTRIES", 1)
    with server.database.read() as session:
        ranked = boards(queries.scores(session, "digits@1", label="recall"), "recall", "all")
    made = leaderboard_stream.pieces(server.database, ranked, ranked[0].columns)
    for _ in range(3):
        next(made)
    assert server.database.engine.pool.checkedout() == 0
    assert b"".join(made).endswith(b"]}]")


def test_a_quota_that_is_used_up_is_429_and_says_when_it_ends(client, filled, server, tmp_path, monkeypatch):
    with server.database.write() as session:
        session.get_one(tables.Evaluation, filled.evaluation).status = "cancelled"
    (tmp_path / "server.yaml").write_text("limits: {tokens: {test: {queued: 0}}}")
    monkeypatch.setenv("EVALSVC_SERVER_FILE", str(tmp_path / "server.yaml"))
    refused = client("submit").post(f"/api/v1/evaluations/{filled.evaluation}/retry")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert refused.json()["type"] == "urn:evalsvc:problem:quota-exceeded"
    assert (
        "quota queued of token 'test' is used up (0 evaluations are waiting): it ends when" in refused.json()["detail"]
    )
    monkeypatch.delenv("EVALSVC_SERVER_FILE")
    assert client("submit").post(f"/api/v1/evaluations/{filled.evaluation}/retry").status_code == 202
