"""What clients cannot have opened: no destination, no secret, no file and no code of their own choice."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from evalsvc.api import schemas
from evalsvc.api.server.task_handlers import TaskHandlers
from evalsvc.builtin.generators.torch_module import TorchModule
from evalsvc.core import http_client
from evalsvc.core.errors import CheckpointError, ForbiddenError, InputError, ModelError
from evalsvc.evaluation import lifecycle
from evalsvc.evaluation.client_rules import ClientRules
from evalsvc.evaluation.items import items_of
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs import endpoint_requests
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite, load_suite
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins, open_to_clients
from evalsvc.store.tables import Evaluation

WORDS = {
    "name": "words",
    "version": 1,
    "modality": "text",
    "samples": 4,
    "shard": 4,
    "decoding": {"max_tokens": 3},
    "metrics": [{"metric": "distinct_n", "options": {"n": 1}}],
}


@pytest.fixture
def upstream():
    """A completions server. With ``refusal`` it answers that, once it has told whether it returns log-probabilities."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, self.headers["authorization"], body))
            refused = running.refusal and not body.get("echo")
            answer = running.refusal if refused else json.dumps({"choices": [{"text": "one two"}]})
            self.send_response(403 if refused else 200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.refusal, running.asked = "", asked
    running.url = f"http://127.0.0.1:{running.server_port}/v1"
    Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def listed(upstream, tmp_path, monkeypatch):
    """The operator's server file, with one endpoint and whatever is added."""
    path = tmp_path / "server.yaml"
    monkeypatch.setenv("EVALSVC_SERVER_FILE", str(path))
    monkeypatch.setenv("LLAMA_KEY", "sk-llama")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "TOPSECRET")

    def write(**more):
        llama = {"url": upstream.url, "model": "llama-3", "key_variable": "LLAMA_KEY", "private": True}
        path.write_text(json.dumps({"endpoints": {"llama": llama}} | more))

    write()
    return write


class Quiet:
    info = GeneratorInfo("quiet", "text")

    def __init__(self, checkpoint, device, *, level=0, path=""):
        pass

    def sample(self, request):
        raise AssertionError


@open_to_clients("level")
class Open(Quiet):
    pass


class Inherits(Open):
    pass


@pytest.fixture
def desk(home):
    made = TaskHandlers(())
    for name, generator in (("quiet", Quiet), ("open", Open), ("inherits", Inherits)):
        made.plugins.add(Plugin(PluginKind.GENERATOR, name, "tests", "1", lambda found=generator: found))
    return made


def row(desk, evaluation):
    with desk.context.database.read() as session:
        return session.get_one(Evaluation, evaluation)


def uploaded(tmp_path, url):
    file = tmp_path / "x_1.jsonl"
    file.write_text(json.dumps({"url": url, "model": "m", "key_variable": "AWS_SECRET_ACCESS_KEY"}))
    return file


def test_a_file_of_a_client_sends_no_secret_anywhere(desk, listed, upstream, tmp_path):
    file = uploaded(tmp_path, upstream.url)
    asked = schemas.EvaluationCreate(upload="0" * 64, model="thief", generator="openai-compatible", suite=WORDS)
    with pytest.raises(ForbiddenError, match="name an 'endpoint' that the operator lists"):
        desk.submit(asked, file)
    listed(clients={"generators": {"openai-compatible": None}})
    with pytest.raises(ForbiddenError, match="name an 'endpoint' that the operator lists"):
        desk.submit(asked, file)
    # A row of before these rules, by its name.
    checkpoint = Checkpoint.open(file, "thief", 1)
    spec = plan(desk.context, checkpoint, "openai-compatible", {}, Suite.model_validate(WORDS))
    lifecycle.submit(desk.context.database, spec)
    upstream.asked.clear()
    with pytest.raises(ForbiddenError, match="name an 'endpoint' that the operator lists"):
        desk.submit(schemas.EvaluationCreate(checkpoint="thief@1", suite=WORDS, seed=3), None)
    assert upstream.asked == []


def test_a_client_names_what_the_operator_listed(desk, listed, upstream):
    made = desk.submit(schemas.EvaluationCreate(endpoint="llama", suite=WORDS), None)
    stored = row(desk, made.id)
    spec = EvaluationSpec.model_validate(stored.spec)
    assert (spec.model, spec.step, spec.path, spec.generator) == ("llama", 0, "endpoint:llama", "openai-compatible")
    assert spec.weights.startswith("unverifiable")
    assert stored.restricted
    assert {(path, key) for path, key, _ in upstream.asked} == {("/v1/completions", "Bearer sk-llama")}
    assert desk.submit(schemas.EvaluationCreate(checkpoint="llama", suite=WORDS), None).id == made.id
    with pytest.raises(InputError, match="there is no endpoint 'other' .available: llama."):
        desk.submit(schemas.EvaluationCreate(endpoint="other", suite=WORDS), None)
    for more in ({"generator": "gan"}, {"checkpoint": "x"}, {}):
        with pytest.raises(ValueError, match="endpoint"):
            schemas.EvaluationCreate(**{"endpoint": "../llama" if not more else "llama", "suite": "words"} | more)


def test_an_endpoint_at_an_inside_address_is_private_by_the_operators_word_alone(desk, listed, upstream, tmp_path):
    endpoints = {"near": {"url": upstream.url, "model": "m"}}
    listed(endpoints=endpoints)
    with pytest.raises(InputError, match="endpoint 'near' has no public address: set 'private: true'") as caught:
        desk.submit(schemas.EvaluationCreate(endpoint="near", suite=WORDS), None)
    assert "127.0.0.1" not in str(caught.value)
    assert upstream.asked == []


def test_an_endpoint_whose_name_is_not_known_is_asked_again_and_told_apart(desk, listed, monkeypatch):
    def unknown(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr(endpoint_requests.Pace, "pause", lambda *_: False)
    monkeypatch.setattr(http_client, "resolve", unknown)
    listed(endpoints={"far": {"url": "http://no.such.host.invalid/v1", "model": "m"}})
    said = r"endpoint 'far' did not respond in 5 attempts \(cannot resolve the host\): check that it is running"
    with pytest.raises(ModelError, match=f"^{said}$") as caught:
        desk.submit(schemas.EvaluationCreate(endpoint="far", suite=WORDS), None)
    assert "cannot resolve the host 'no.such.host.invalid'" in caught.value.detail


def test_what_an_upstream_server_said_is_for_the_operator(desk, listed, upstream, client):
    upstream.refusal = "internal admin page: db password is swordfish, incorrect key sk-llama"
    made = desk.submit(schemas.EvaluationCreate(endpoint="llama", suite=WORDS), None)
    spec = EvaluationSpec.model_validate(row(desk, made.id).spec)
    with pytest.raises(ModelError):
        evaluate(spec, desk.context)
    stored = row(desk, made.id)
    assert stored.error == "endpoint 'llama' refused the request"
    assert "403: internal admin page: db password is" in stored.detail
    assert "incorrect key ***" in stored.detail
    reader = client("read")
    for path in ("", f"/{made.id}", f"/{made.id}/events"):
        shown = reader.get(f"/api/v1/evaluations{path}").text
        assert "refused the request" in shown
        assert not any(told in shown for told in ("swordfish", "403:", upstream.url, "sk-llama"))
    desk.context.database.engine.dispose()


@pytest.mark.parametrize(
    ("generator", "options", "complaint"),
    [
        ("quiet", {}, "generator 'quiet' is not open to clients .* 'clients.generators'"),
        ("inherits", {}, "generator 'inherits' is not open to clients"),
        ("open", {"path": "/etc/passwd"}, "option 'path' of generator 'open' is not open .* 'clients.generators.open'"),
        ("causal-lm", {"trust_remote_code": True}, "option 'trust_remote_code' of generator 'causal-lm'"),
        ("torch-module", {"module": "os:system", "latent": 1}, "EVALSVC_TORCH_MODULES"),
        ("torch-module", {"module": "torchx.nn:Linear", "latent": 1}, "EVALSVC_TORCH_MODULES"),
        ("torch-module", {"module": "torch.nn:Linear", "arguments": {"a": [{"b": "/etc/passwd"}]}}, "could be a path"),
        ("torch-module", {"module": "torch.nn:Linear", "arguments": {"a": "weights.pt"}}, "could be a path"),
        ("torch-module", {"module": "torch.py:Linear", "latent": 1}, "EVALSVC_TORCH_MODULES"),
        ("torch-module", {"module": "torch.nn:/tmp/x.py:Linear", "latent": 1}, "EVALSVC_TORCH_MODULES"),
        ("torch-module", {"module": "torch.nn:Linear", "arguments": {"a": [{"module": "os:X"}]}}, "from 'os:X'"),
        (
            "torch-module",
            {"module": "torch.nn:Linear", "arguments": {"a": {"module": "torch.nn:X", "arguments": {"b": "/etc"}}}},
            "could be a path",
        ),
        ("torch-module", {"module": "torch.nn:Linear", "call": "to"}, "option 'call' of generator 'torch-module'"),
        (
            "torch-module",
            {"module": "torch.nn:Linear", "contents": {}},
            "option 'contents' of generator 'torch-module'",
        ),
    ],
)
def test_what_is_not_listed_is_closed(desk, listed, monkeypatch, tmp_path, generator, options, complaint):
    monkeypatch.setenv("EVALSVC_TORCH_MODULES", "torch")
    file = tmp_path / "x_1.pt"
    file.write_bytes(b"never read")
    monkeypatch.setattr(TorchModule, "__init__", None)
    with pytest.raises(ForbiddenError, match=complaint):
        desk.submit(schemas.EvaluationCreate(path=str(file), generator=generator, options=options, suite=WORDS), file)


def test_modules_inside_of_arguments_are_of_listed_packages(desk):
    nested = {"model": {"module": "torch.nn:Linear", "arguments": {"in_features": 3}}}
    ClientRules(desk.plugins, ["torch"]).check_generator("torch-module", {"module": "torch.nn:X", "arguments": nested})


def test_the_operator_opens_and_closes_what_clients_may_use(desk, listed):
    rules = ClientRules(desk.plugins)
    rules.check_generator("open", {"level": 1})
    listed(clients={"generators": {"quiet": ["path"], "open": None}})
    rules.check_generator("quiet", {"path": "x"})
    rules.check_generator("open", {"level": 1})
    rules.check_generator("openai-compatible", {"temperature": 0})
    for generator, options in (("quiet", {"level": 1}), ("open", {"path": "x"}), ("gan", {})):
        with pytest.raises(ForbiddenError):
            rules.check_generator(generator, options)


@pytest.mark.parametrize(
    ("use", "options"),
    [
        ("inception-v3", {"weights": "/etc/passwd"}),
        ("inception-v3", {"backend": "compile"}),
        ("vgg16", {"weights": "/x.pth"}),
        ("resemblyzer", {"weights": "/x.pt"}),
        ("clip", {"model": "evil/repo"}),
        ("dinov2", {"model": "/srv/models"}),
        ("clap", {"model": "evil/repo"}),
        ("likelihood", {"model": "evil/repo"}),
        ("text-encoder", {"model": "evil/repo"}),
        ("video-network", {"path": "/x.pt", "width": 1}),
    ],
)
def test_a_suite_of_a_client_names_no_file_and_no_model(desk, use, options):
    suite = WORDS | {"extractors": {"x": {"use": use, "options": options}}}
    with pytest.raises(ForbiddenError, match=f"extractor '{use}' is not open to clients"):
        desk._suite(suite)


def test_frames_of_a_client_are_looked_at_by_extractors_that_are_open(desk):
    def asked(**options):
        use = {"use": "frame-wise", "options": options}
        videos = {key: value for key, value in WORDS.items() if key != "decoding"} | {"modality": "video"}
        metric = {"metric": "frechet_distance", "features": "x/features"}
        return desk._suite(videos | {"reference": "clips", "extractors": {"x": use}, "metrics": [metric]})

    assert asked(frames="efficientnet-lite0").extractors
    for options, closed in (
        ({"frames": "video-network"}, "extractor 'video-network'"),
        ({"frames": "inception-v3", "options": {"weights": "/x.pth"}}, "option 'options' of extractor 'frame-wise'"),
    ):
        with pytest.raises(ForbiddenError, match=f"{closed} is not open to clients"):
            asked(**options)


def test_a_suite_of_a_client_has_scorers_that_are_open_to_clients(desk, tmp_path, monkeypatch):
    share = {"name": "exact_match", "direction": "higher", "unit": "share"}

    def asked(use, **options):
        return desk._suite(WORDS | {"scorers": {"s": {"use": use, "options": options, "quantities": [share]}}})

    assert asked("exact-match", normalize="quasi").scorers
    for use, options, closed in (
        ("exact-match", {"path": "/etc"}, "option 'path' of scorer 'exact-match'"),
        ("label-accuracy", {"extractor": "video-network"}, "extractor 'video-network'"),
    ):
        with pytest.raises(ForbiddenError, match=f"{closed} is not open to clients"):
            asked(use, **options)
    assert asked("rubric", endpoint="endpoint:large", gradings=2).scorers
    for endpoint in (str(tmp_path / "own.json"), ["endpoint:large"], {"url": "http://169.254.169.254"}):
        with pytest.raises(ForbiddenError, match="option 'endpoint' of scorer 'rubric' must be endpoint:NAME"):
            asked("rubric", endpoint=endpoint)
    (tmp_path / "server.yaml").write_text("clients: {scorers: {rouge: }}")
    monkeypatch.setenv("EVALSVC_SERVER_FILE", str(tmp_path / "server.yaml"))
    with pytest.raises(ForbiddenError, match="scorer 'exact-match' is not open to clients"):
        asked("exact-match")


def test_a_suite_of_a_client_names_no_file_of_prompts_unless_it_is_the_operators_own(desk, tmp_path):
    (tmp_path / "prompts.txt").write_text("secret one\nsecret two\nthree\nfour\n")
    theirs = WORDS | {"prompts": {"path": str(tmp_path / "prompts.txt"), "sha256": "0" * 64}}
    with pytest.raises(ForbiddenError, match="names a prompt file"):
        desk._suite(theirs)
    used = tmp_path / "words.yaml"
    used.write_text(json.dumps(WORDS | {"prompts": "prompts.txt"}))
    own = load_suite(str(used))
    (tmp_path / "x_1.jsonl").write_text("".join(f'{{"text": "{n}"}}\n' for n in range(4)))
    spec = plan(desk.context, Checkpoint.open(tmp_path / "x_1.jsonl", "x", 1), "samples", {}, own)
    lifecycle.submit(desk.context.database, spec)
    body = own.model_dump(mode="json")
    elsewhere = body | {"prompts": body["prompts"] | {"path": "/etc/passwd"}}
    assert desk._suite(elsewhere).prompts == own.prompts


def test_a_suite_of_a_client_names_no_file_of_items_unless_they_are_stored(desk, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"q": "one"}\n{"q": "two"}\n')
    (tmp_path / "w.yaml").write_text(json.dumps(WORDS | {"samples": 2, "items": {"file": "q.jsonl", "prompt": "q"}}))
    own = load_suite(str(tmp_path / "w.yaml"))
    body = own.model_dump(mode="json") | {"name": "theirs"}
    with pytest.raises(ForbiddenError, match="names an item file"):
        desk._suite(body)
    with pytest.raises(InputError, match="the items have not been read"):
        desk._suite(WORDS | {"items": {"file": "/etc/passwd"}})
    with pytest.raises(ForbiddenError, match="names an item file"):
        desk._suite(body | {"items": body["items"] | {"file": "hub:org/name"}})
    items_of(desk.context, own)
    assert desk._suite(body | {"items": body["items"] | {"file": "/etc/passwd"}}).items.file == "stored"
    forged = desk._suite(body | {"items": body["items"] | {"conditions": "0" * 64}})
    desk.context.items.clear()
    with pytest.raises(InputError, match="declares other items than those of its digest"):
        items_of(desk.context, forged)


def test_a_suite_of_a_client_may_have_class_labels(desk):
    asked = desk._suite(WORDS | {"samples": 9, "items": {"labels": {"classes": 3}, "count": 99, "sha256": "0" * 64}})
    assert asked.items.count == 3
    assert items_of(desk.context, asked).labels.tolist() != [0, 0, 0]


def test_a_checkpoint_that_the_operator_chose_is_scored_again_as_it_was(desk, listed, tmp_path):
    (tmp_path / "x_1.jsonl").write_text("anything")
    checkpoint = Checkpoint.open(tmp_path / "x_1.jsonl", "x", 1)
    spec = plan(desk.context, checkpoint, "quiet", {"path": "/operators"}, Suite.model_validate(WORDS))
    made = lifecycle.submit(desk.context.database, spec, restricted=True)
    with pytest.raises(ForbiddenError, match="'quiet' is not open"):
        desk.submit(schemas.EvaluationCreate(checkpoint="x@1", suite=WORDS, seed=7), None)
    lifecycle.cancel(desk.context.database, made.id)
    assert lifecycle.submit(desk.context.database, spec).id == made.id
    assert not row(desk, made.id).restricted
    assert desk.submit(schemas.EvaluationCreate(checkpoint="x@1", suite=WORDS, seed=7), None).created


def test_an_adapter_of_a_client_names_no_folder_of_the_server(desk, listed, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for base in (str(tmp_path), "/etc", "/nowhere/at/all", "../adapter"):
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        with pytest.raises(CheckpointError, match="adapter is an adapter whose base is a path on this server"):
            desk.submit(schemas.EvaluationCreate(path=str(folder), generator="open", step=1, suite=WORDS), folder)


def test_every_shipped_plugin_says_what_clients_may_do_with_it():
    for plugin in Plugins():
        if plugin.kind in (PluginKind.GENERATOR, PluginKind.EXTRACTOR) and plugin.distribution == "evalsvc":
            declared = vars(plugin.load()).get("client_options")
            closed = {"command", "onnx-module", "video-network", "likelihood", "text-encoder"}
            assert (declared is None) == (plugin.name in closed), plugin.name
            assert not {"weights", "model", "path", "backend", "prompts_file"} & (declared or set())
