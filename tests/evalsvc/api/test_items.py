"""Items by the API, its client and the command line: one answer, bounded, and harmless whatever the texts say."""

import json
import sys

import pytest

from benchmarks.items import fill
from evalsvc.api.client import Client, ClientError
from evalsvc.cli import console, main

HOSTILE = "\x1b[31m\u202e<img src=x onerror=alert(1)>\n::error::" + "x" * 3000 + "\ud800"


@pytest.fixture
def spoken(server):
    return fill(server.database, server.artifacts, items=120, draws=2, scorers=2, hostile=HOSTILE)


@pytest.fixture
def ask(live, token, spoken, monkeypatch, capsys):
    """Run the command line in this process, against the server or its database; exit code and what was printed."""
    monkeypatch.setenv("EVALSVC_TOKEN", token)
    monkeypatch.setattr(console.out, "width", 300)

    def run(*arguments, server=live):
        monkeypatch.setattr(sys, "argv", ["evalsvc", *(["--server", server] if server else []), *arguments])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return ended.value.code, capsys.readouterr()

    return run


def test_a_server_says_of_items_what_its_database_does(ask):
    for command in (
        ["items", "reader@2", "--of", "wer", "--worst", "3", "--by", "lang"],
        ["compare", "reader@1", "reader@2", "--of", "asr/wer", "--limit", "3"],
    ):
        code, remotely = ask(*command, "--json")
        assert code == 0, remotely.err
        assert json.loads(remotely.out) == json.loads(ask(*command, "--json", server=None)[1].out)
        assert ask(*command)[1].out == ask(*command, server=None)[1].out


def test_hostile_texts_are_harmless_in_a_terminal_and_a_mistake_is_one_sentence(ask, live):
    code, seen = ask("items", "reader@2", "--of", "asr_failed[lang=de]", "--worst", "200", server=None)
    assert code == 0
    assert "\\x1b[31m\\u202e" in "".join(seen.out.replace("│", " ").split())
    assert not {"\x1b", "\u202e"} & set(seen.out)
    assert "\n::error" not in seen.out
    for command, said in (
        (["items", "reader@2", "--of", "bleu"], "no scores of items called 'bleu': use one of wer,"),
        (["items", "reader@2", "--by", "speaker"], "no tag 'speaker': use one of lang"),
        (["items", "nobody@2"], "nobody"),
        (["compare", "reader@1", "reader@2", "--of", "nope"], "use one of wer,"),
    ):
        for server in (None, live):
            code, seen = ask(*command, server=server)
            assert (code, seen.out) == (2, "")
            assert said in " ".join(seen.err.split())


def test_pages_and_samples_are_bounded_and_a_sample_is_never_a_page(client, spoken):
    seen, cursor, reader = [], "", client("read")
    while cursor is not None:
        asked = {"checkpoint": "reader@2", "of": "wer", "limit": 100} | ({"cursor": cursor} if cursor else {})
        answer = reader.get("/api/v1/items", params=asked).json()
        seen += answer["items"]
        cursor = answer["next"]
    assert sorted(each["sample"] for each in seen) == list(range(240))
    assert max(len(each["item"]["prompt"]) for each in seen) == 1000
    answer = reader.get("/api/v1/evaluations/2/samples/0")
    assert answer.text.startswith("\x1b[31m\u202e<img")
    assert answer.text.endswith("\\ud800sentence 0 said in way 2")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == 'attachment; filename="2-0.txt"'
    assert reader.get("/api/v1/evaluations/2/samples/9999").status_code == 404
    assert reader.get("/api/v1/evaluations/9/samples/0").status_code == 404


def test_the_client_asks_for_items_changes_and_samples(live, token, spoken, server):
    with Client(live, token) as asking:
        first = asking.items("reader@2", "wer", 2, by="lang")
        assert first.slices[0].value == "de"
        then = asking.items("reader@2", "wer", 2, cursor=first.next)
        assert first.items[-1].value >= then.items[0].value
        change = asking.compare_items("reader@1", "reader@2", "wer", 1).regressions[0]
        assert asking.sample(first.evaluation, change.b.sample).decode() == change.b.answer
        server.artifacts.remove(f"evaluations/{2:032x}")
        with pytest.raises(ClientError, match="missing or damaged: score again with --rerun") as refused:
            asking.items("reader@2", "cer")
        assert refused.value.status == 404
