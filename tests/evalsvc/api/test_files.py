"""Files leave by id and never by path; checkpoints come from configured roots or as uploads."""

import hashlib
from urllib.parse import quote

import pytest

from evalsvc.api.server import upload_meter
from evalsvc.api.server.checkpoint_files import under_roots
from evalsvc.api.server.state import ServerSettings
from evalsvc.core.errors import InputError
from evalsvc.store import tables

HOSTILE = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cwindows%5cwin.ini",
    "..\\..\\windows\\win.ini",
    "....//....//etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    "C:%5cwindows%5cwin.ini",
    "C:/windows/win.ini",
    "1%00.png",
    "1%23/../secret",
    "1#secret",
    "1;/../secret",
    "1/../secret",
    "1%0d%0aset-cookie:x=1",
    "~root",
    "$HOME",
    "%c0%ae%c0%ae/etc/passwd",
    "\uff0e\uff0e/etc/passwd",
    "-1",
    "0",
    "1e0",
    "0x1",
    "99999999999999999999",
    "\u0661",
    "CON",
    "con.txt",
    "1:stream",
    "a" * 5000,
]


def test_an_artifact_is_sent_as_a_file_to_save(client, filled):
    answer = client("read").get(f"/api/v1/artifacts/{filled.artifact}")
    assert answer.content == b"\x01pixels"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == f'attachment; filename="{filled.artifact}-gallery.safetensors"'


def test_a_damaged_artifact_is_not_sent(client, filled, server):
    path = server.artifacts.local("galleries/1.safetensors")
    content = path.read_bytes()
    for damaged in (b"", content[:-1], content[:-1] + b"x"):
        path.write_bytes(damaged)
        answer = client("read").get(f"/api/v1/artifacts/{filled.artifact}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == (
            f"the file of artifact {filled.artifact} is damaged: score its checkpoint again with --rerun"
        )
    path.unlink()
    answer = client("read").get(f"/api/v1/artifacts/{filled.artifact}")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"the file of artifact {filled.artifact} is missing")


def test_no_path_leads_to_a_file(client, filled, server):
    (server.artifacts.root / "secret").write_text("root:x:0:0")
    reader = client("read")
    for path in HOSTILE:
        answer = reader.get(f"/api/v1/artifacts/{path}", follow_redirects=False)
        assert answer.status_code in (400, 404, 422) or answer.content == b"\x01pixels", path
        assert b"root:" not in answer.content, path


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", "link", "folder", "gone", "linked/passwd"])
def test_a_row_that_points_out_of_the_artifacts_gives_nothing(client, filled, server, path):
    (server.artifacts.root / "link").symlink_to("/etc/passwd")
    (server.artifacts.root / "linked").symlink_to("/etc")
    (server.artifacts.root / "folder").mkdir()
    with server.database.write() as session:
        session.get_one(tables.Artifact, filled.artifact).path = path
    answer = client("read").get(f"/api/v1/artifacts/{filled.artifact}")
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_a_kind_cannot_break_out_of_its_header(client, filled, server):
    with server.database.write() as session:
        session.get_one(tables.Artifact, filled.artifact).kind = 'x"; filename="evil.html\r\nset-cookie: a=b'
    answer = client("read").get(f"/api/v1/artifacts/{filled.artifact}")
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"].endswith('.safetensors"')


@pytest.fixture
def tree(roots, tmp_path):
    """A root with a checkpoint, and many ways out of it."""
    (roots / "flow").mkdir()
    (roots / "flow" / "step_1.pt").write_bytes(b"weights")
    (tmp_path / "secret.pt").write_bytes(b"secret")
    (tmp_path / "checkpoints-of-others").mkdir()
    (tmp_path / "checkpoints-of-others" / "step_1.pt").write_bytes(b"secret")
    (roots / "link.pt").symlink_to(tmp_path / "secret.pt")
    (roots / "out").symlink_to(tmp_path)
    (roots / "loop").symlink_to(roots / "loop")
    (roots / "mixed").mkdir()
    (roots / "mixed" / "weights.pt").write_bytes(b"weights")
    (roots / "mixed" / "config.json").symlink_to("/etc/passwd")
    (roots / "farther").mkdir()
    (roots / "farther" / "weights").symlink_to(roots / "mixed")
    return roots


def test_files_and_folders_below_a_root_are_checkpoints(tree):
    for inside in ("flow", "flow/step_1.pt"):
        assert under_roots(str(tree / inside), [tree]) == (tree / inside).resolve()


@pytest.mark.parametrize(
    "path",
    [
        "{root}",
        "{root}/..",
        "{root}/../secret.pt",
        "{root}/flow/../../secret.pt",
        "{root}/flow/../flow/step_1.pt",
        "{root}-of-others/step_1.pt",
        "{root}/link.pt",
        "{root}/out/secret.pt",
        "{root}/loop",
        "{root}/mixed",
        "{root}/farther",
        "{root}/gone.pt",
        "{root}\\..\\secret.pt",
        "{root}/%2e%2e/secret.pt",
        "{root}/flow/step_1.pt\0.png",
        "flow/step_1.pt",
        "~/secret.pt",
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "file:///etc/passwd",
        "C:\\windows\\win.ini",
        "",
        "x" * 4000,
    ],
)
def test_nothing_else_is_and_all_refusals_read_alike(tree, path):
    given = path.format(root=tree)
    with pytest.raises(InputError) as caught:
        under_roots(given, [tree])
    assert str(caught.value) == (
        f"no checkpoint {given!r} under EVALSVC_CHECKPOINT_ROOTS of this server: put it there, or upload it"
    )


def test_without_a_root_no_path_is_taken(tree):
    with pytest.raises(InputError, match="EVALSVC_CHECKPOINT_ROOTS"):
        under_roots(str(tree / "flow"), [])


def test_an_upload_is_kept_once_under_its_digest(client, server):
    submitter, digest = client("submit"), hashlib.sha256(b"weights").hexdigest()
    for name in ("step_1.safetensors", "step_2.safetensors"):
        answer = submitter.post("/api/v1/uploads", params={"name": name}, content=b"weights")
        assert answer.status_code == 201
        assert answer.json() == {"digest": digest, "name": "step_1.safetensors", "bytes": 7}
    assert [file.name for file in server.uploads.rglob("*") if file.is_file()] == ["step_1.safetensors"]


@pytest.mark.parametrize("streamed", [True, False])
def test_an_upload_beyond_the_limit_leaves_nothing(client, app, server, streamed):
    object.__setattr__(server, "settings", ServerSettings(upload_limit=1000))
    body = (b"x" * 300 for _ in range(4)) if streamed else b"x" * 1200
    answer = client("submit").post("/api/v1/uploads", params={"name": "step_1.pt"}, content=body)
    assert answer.status_code == 413
    assert "1000 bytes" in answer.json()["detail"]
    assert [file for file in server.uploads.rglob("*") if file.is_file()] == []


def test_an_upload_has_the_name_of_a_checkpoint_file(client, server):
    submitter = client("submit")
    for name in ("../x.pt", "a/b.pt", "a\\b.pt", ".x.pt", "x.sh", "x.pt\n", "x\0.pt", "x.pt ", "", "C:x.pt", "x.py"):
        assert submitter.post(f"/api/v1/uploads?name={quote(name)}", content=b"x").status_code == 422, name
    assert not server.uploads.exists()


def test_an_empty_upload_is_refused(client):
    answer = client("submit").post("/api/v1/uploads", params={"name": "step_1.pt"}, content=b"")
    assert (answer.status_code, answer.json()["detail"]) == (422, "the upload is empty")


@pytest.mark.parametrize("streamed", [True, False])
def test_an_upload_beyond_the_quota_of_its_token_leaves_nothing_and_says_when_it_may_come(
    client, server, tmp_path, monkeypatch, streamed
):
    (tmp_path / "server.yaml").write_text("limits: {default: {uploads_a_day: 1000}}")
    monkeypatch.setenv("EVALSVC_SERVER_FILE", str(tmp_path / "server.yaml"))
    monkeypatch.setattr(upload_meter, "STEP", 500)
    submitter, params = client("submit"), {"name": "step_1.pt"}
    assert submitter.post("/api/v1/uploads", params=params, content=b"x" * 600).status_code == 201
    body = (b"y" * 300 for _ in range(2)) if streamed else b"y" * 600
    answer = submitter.post("/api/v1/uploads", params=params, content=body)
    assert answer.status_code == 429
    assert answer.json()["type"] == "urn:evalsvc:problem:quota-exceeded"
    assert "quota uploads_a_day of token 'test' is used up" in answer.json()["detail"]
    assert 0 < int(answer.headers["retry-after"]) <= 86401
    assert len([file for file in server.uploads.rglob("*") if file.is_file()]) == 1
