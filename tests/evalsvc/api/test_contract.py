"""schemathesis calls every route as the OpenAPI document describes it, and as it does not."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from evalsvc.api import schemas
from evalsvc.api.server import token_store
from evalsvc.core import http_client
from evalsvc.store.tables import Scope

EXAMPLES = int(os.environ.get("EVALSVC_CONTRACT_EXAMPLES", "5"))
# A request may fit the schema and still name what is not there; and that tokens are asked for, test_auth.py shows of
# every route, where this check takes the token of the test's own headers for an invented one.
NOT_ASKED = [schemathesis.checks.positive_data_acceptance, schemathesis.checks.ignored_auth]
FUZZING = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def described(app, filled, monkeypatch):
    def unknown(host, port):
        raise OSError("no names are looked up in tests")

    monkeypatch.setattr(http_client, "resolve", unknown)
    _, secret = token_store.create(app.state.server.database, "fuzz", [Scope.ADMIN])
    headers = {"Authorization": f"Bearer {secret}", "Host": "localhost"}
    # On a busy machine the processes that decide take longer than ten seconds to start.
    config = schemathesis.Config.from_dict({"headers": headers, "request-timeout": 60})
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, config=config, headers={"Host": "localhost"})


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_whatever_is_sent_the_server_answers_as_it_says(described, mode):
    called, failures = 0, []
    for found in described.get_all_operations():
        operation = found.ok()
        called += 1

        @FUZZING
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers(case):
            case.call_and_validate(excluded_checks=NOT_ASKED)

        try:
            answers()
        except Unsatisfiable:  # nothing about it can be wrong
            continue
        except schemathesis.core.failures.FailureGroup as group:  # all routes are tried, and told together
            failures.append(f"{operation.label}\n{group}")
    assert called > 25
    assert not failures, "\n\n".join(failures)


def test_every_example_of_the_document_is_one(app):
    shown = 0
    for name, schema in app.openapi()["components"]["schemas"].items():
        for example in schema.get("examples", []):
            getattr(schemas, name).model_validate(example)
            shown += 1
    assert shown >= 8
