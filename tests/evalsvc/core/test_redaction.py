"""No message shows what an address holds in confidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsvc.cli import doctor_checks
from evalsvc.core.errors import InputError, StorageError, first_line
from evalsvc.core.observability.redaction import redacted
from evalsvc.core.settings import Settings
from evalsvc.store.object_store import ObjectStore
from evalsvc.store.urls import parse_url, shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@h/x",
        "postgresql://u:hun/ter2@h/x",
        "postgresql://u:hunter2@hunter2@h/x",
        "postgresql://:hunter2@h/x",
        "postgresql://u@h/x?sslmode=require&password=hunter2",
        "postgresql://u@h/x?sslpassword=hunter2&sslmode=require",
        "postgresql://u@h/x?sslkey=/hunter2.key",
        "postgresql://u@h/x?passfile=hunter2",
        "s3://AKIA:hunter2@bucket/folder",
        "abfs://folder@account.dfs.core.windows.net/x?sig=hunter2",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
        "https://h/x?api_key=hunter2",
        "https://h/x?access_token=hunter2#part",
        "could not connect (host=h user=u password=hunter2 dbname=x)",
        "could not connect (password = 'hunter2 hunter2' dbname=x)",
        "EVALSVC_SECRET_KEY=hunter2",
    ],
)
def test_a_password_is_hidden_wherever_an_address_holds_one(text):
    assert "unter2" not in str(StorageError(f"{text}/key could not be read: try '{text}' again"))
    assert "unter2" not in first_line(RuntimeError(text))


@given(st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="&#'\"),.:;@"), min_size=4))
def test_no_sign_of_a_password_ends_its_hiding(password):
    for text in (f"postgresql://user:{password}~@host/x", f"s3://bucket/x?secret={password}~&y=1 was refused"):
        assert f"{password}~" not in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8642/models/flow@4000",
        "use postgresql://user:password@host/name or sqlite:///file",
        "s3://bucket/flow@4000?versionId=7",
        "options are key=value pairs, and max_tokens=5 is one",
        "sqlite:////home/me/x.db",
    ],
)
def test_all_else_of_an_address_is_shown(text):
    assert redacted(text) == text


def test_a_password_among_the_parameters_is_taken_as_the_password():
    url = parse_url("postgresql://u@h/x?password=hunter2&sslmode=require")
    assert (url.password, dict(url.query)) == ("hunter2", {"sslmode": "require"})
    assert shown(url) == "postgresql+psycopg://u:***@h/x?sslmode=require"


def test_the_doctor_and_a_store_that_fails_hide_the_secrets_of_its_address(home):
    (found,) = doctor_checks._artifacts(Settings(home=home, artifacts="memory://me:hunter2@box"))
    assert found.detail.startswith("memory://me:***@box is writable")
    with pytest.raises(InputError, match=r"ftp://me:\*\*\*@box"):
        ObjectStore("ftp://me:hunter2@box", home)


@pytest.mark.parametrize(
    "part", ["x://:", "http://:", "secret", "?password=", "?token", "&x-api-key", "://", "evs_", "a.-", "password = "]
)
def test_no_text_takes_more_than_its_length_is_worth(part):
    """Twice nested repetitions would look at it for minutes."""
    count = 100_000 // len(part)
    assert redacted(part * count + " end").endswith("end")
    assert redacted("?" + part.lstrip("?&") * count + " end").endswith("end")


@pytest.mark.parametrize("secret", ["evs_k3Jx9Q2mZr8tLw5vYb7nHc4d", "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ="])
def test_our_own_secrets_are_hidden_wherever_they_stand(secret):
    shown = redacted(f"GET /api/v1/models/{secret} by 'Bearer {secret}'")
    assert secret not in shown
    assert shown == f"GET /api/v1/models/{secret.partition('_')[0]}_*** by 'Bearer {secret.partition('_')[0]}_***'"
