"""Tokens and scopes: nothing is open that was not opened by name."""

from datetime import timedelta

import pytest
from fastapi import APIRouter

from evalsvc.api.server import token_store
from evalsvc.api.server.auth import GuardedRoute
from evalsvc.store.tables import Scope, Token, now

OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/api/v1/openapi.json")}


def every_route(app):
    """Method, path and scope of all that the app answers to, however it was added."""
    found = []

    def walk(routes):
        for route in routes:
            inner = getattr(route, "original_router", None) or getattr(route, "app", None)
            if getattr(inner, "routes", None):
                walk(inner.routes)
            else:
                assert isinstance(route, GuardedRoute), f"{route} is not guarded"
                found.extend((method, route.path, route.scope) for method in route.methods)

    walk(app.routes)
    return found


def url(path):
    return path.replace("{id}", "1").replace("{name}", "production")


def test_every_route_refuses_who_has_no_token_and_who_has_too_little(app, client, filled):
    routes = every_route(app)
    assert len(routes) > 25
    assert {(method, path) for method, path, scope in routes if scope is None} == OPEN
    less = {Scope.READ: [], Scope.SUBMIT: ["read", "worker"], Scope.ADMIN: ["read", "submit", "worker"]}
    nobody, reader = client(), client("read")
    for method, path, scope in routes:
        if scope is None:
            assert nobody.request(method, url(path)).status_code == 200
            continue
        for said in ({}, {"authorization": "Bearer evs_guess"}, {"authorization": "Basic YTpi"}):
            # Neither a body that is no JSON nor an id that is not there is looked at before the token.
            headers = said | {"content-type": "application/json"}
            refused = nobody.request(method, url(path), headers=headers, content="{")
            assert refused.status_code == 401, (method, path)
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert refused.headers["content-type"] == "application/problem+json"
        if less[scope]:
            refused = client(*less[scope]).request(method, url(path))
            assert refused.status_code == 403, (method, path)
            assert f"requires scope {scope}" in refused.json()["detail"]
        else:
            assert reader.request(method, url(path)).status_code not in (401, 403), (method, path)


def test_a_route_that_says_no_scope_cannot_be_built():
    with pytest.raises(TypeError, match="does not declare a scope"):
        APIRouter(route_class=GuardedRoute).get("/secrets")(lambda: "all of them")


def test_tokens_and_webhooks_belong_to_admins(app):
    for _, path, scope in every_route(app):
        if path.startswith(("/api/v1/tokens", "/api/v1/webhooks")):
            assert scope is Scope.ADMIN


def test_whatever_writes_takes_more_than_read(app):
    assert all(scope in (Scope.SUBMIT, Scope.ADMIN) for method, _, scope in every_route(app) if method != "GET")


@pytest.mark.parametrize(
    ("scope", "may"),
    [("read", {"read"}), ("submit", {"read", "submit"}), ("worker", {"read", "worker"}), ("admin", set(Scope))],
)
def test_scopes_include_what_they_build_on(client, scope, may):
    assert set(client(scope).get("/api/v1").json()["scopes"]) == may


def test_a_secret_is_long_random_and_stored_as_its_digest_only(database):
    row, secret = token_store.create(database, "ci", [Scope.READ])
    assert secret.startswith("evs_")
    assert len(secret) - len("evs_") >= 160 / 6
    with database.read() as session:
        stored = session.get_one(Token, row.id)
        assert secret not in str(vars(stored))
        assert secret[4:] not in str(vars(stored))
    assert token_store.create(database, "ci", [Scope.READ])[1] != secret
    assert token_store.recognize(database, secret).name == "ci"
    assert token_store.recognize(database, secret + "x") is None


def test_a_token_ends_when_it_says_and_at_once_when_revoked(database):
    row, secret = token_store.create(database, "ci", [Scope.READ], timedelta(days=1))
    assert token_store.recognize(database, secret)
    assert token_store.usable(database) == 1
    with database.write() as session:
        session.get_one(Token, row.id).expires_at = now() - timedelta(seconds=1)
    assert token_store.recognize(database, secret) is None
    assert token_store.usable(database) == 0
    row, secret = token_store.create(database, "ci", [Scope.READ])
    token_store.revoke(database, row.id)
    assert token_store.recognize(database, secret) is None


def test_the_last_use_of_a_token_is_known_to_the_minute(database):
    row, secret = token_store.create(database, "ci", [Scope.READ])

    def last_use():
        with database.read() as session:
            return session.get_one(Token, row.id).last_used_at

    assert last_use() is None
    token_store.recognize(database, secret)
    first = last_use()
    assert now() - first < timedelta(seconds=30)
    token_store.recognize(database, secret)
    assert last_use() == first
    with database.write() as session:
        session.get_one(Token, row.id).last_used_at = now() - timedelta(hours=1)
    token_store.recognize(database, secret)
    assert now() - last_use() < timedelta(seconds=30)


def test_an_admin_makes_lists_and_revokes_tokens_over_http(client):
    admin = client("admin")
    made = admin.post("/api/v1/tokens", json={"name": "ci", "scopes": ["submit"], "days": 30}).json()
    secret = made["token"]
    assert client().get("/api/v1", headers={"authorization": f"Bearer {secret}"}).json()["token"] == "ci"
    assert secret not in admin.get("/api/v1/tokens").text
    assert admin.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert client().get("/api/v1", headers={"authorization": f"Bearer {secret}"}).status_code == 401
    assert admin.delete(f"/api/v1/tokens/{made['id']}").status_code == 404
