"""Manifests of C2PA in the files of samples: present, valid, damaged, remote, hostile."""

import io
import socket
import threading
import wave
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from evalsvc.builtin.scorers.provenance_mark import ProvenanceMark
from evalsvc.core.errors import InputError, RefusedError
from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.planning import plan
from evalsvc.evaluation.runner import evaluate
from evalsvc.inputs import torch_loader
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.sample_sets import open_samples
from evalsvc.inputs.suites import load_suite
from evalsvc.inputs.torch_loader import read_c2pa
from evalsvc.plugins import scoring
from evalsvc.plugins.items import ItemBatch
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.sample_files import HasFiles
from evalsvc.plugins.samples import Images
from evalsvc.store import queries
from tests.evalsvc.builtin.test_image_scorers import CPU, batch, noise
from tests.evalsvc.c2pa_files import picture, signed

ABSENT, INVALID, VALID = (False, False), (True, False), (True, True)


def sound():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    return out.getvalue()


def changed(content, mark, offset):
    """The file with one bit changed behind the last ``mark``."""
    place = content.rfind(mark) + offset
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda: picture(), ABSENT),
        (lambda: signed(picture()), VALID),
        (lambda: signed(picture(kind="jpeg"), "image/jpeg"), VALID),
        (lambda: signed(picture(kind="webp"), "image/webp"), VALID),
        (lambda: signed(sound(), "audio/wav"), VALID),
        (lambda: changed(signed(picture()), b"IDAT", 8), INVALID),
        (lambda: changed(signed(picture()), b"tests", 0), INVALID),
        (lambda: changed(signed(picture()), b"jumdc2pa", -2), INVALID),
        (lambda: b"", ABSENT),
        (lambda: picture(kind="bmp"), ABSENT),
    ],
    ids=["unmarked", "png", "jpeg", "webp", "wav", "other pixels", "other manifest", "broken manifest", "empty", "bmp"],
)
def test_a_mark_is_present_and_valid_if_nothing_was_changed(content, expected):
    assert read_c2pa(content()) == expected


def test_nothing_is_fetched():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        asked = []
        thread = threading.Thread(target=lambda: asked.append(_accepted(server)))
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa"
        assert read_c2pa(signed(picture(), address=address)) == ABSENT
        thread.join()
    assert asked == [False]


def _accepted(server):
    try:
        server.accept()
    except TimeoutError:
        return False
    return True


def test_a_file_that_cannot_be_read_fails_alone():
    def lost():
        raise InputError("folder: a.png cannot be read: restore it")

    truncated = signed(picture())[:400]
    files = (lambda: signed(picture()), lost, lambda: truncated)
    items = ItemBatch(tuple("abc"), batch(3).draws, files=files)
    found = scoring.score(ProvenanceMark(CPU), Images(noise(3, 3, 4, 4)), items, {})
    assert found.values["c2pa_valid"].tolist()[0] == 1.0
    assert found.outcomes.tolist() == [scoring.SCORED, scoring.FAILED, scoring.FAILED]
    assert found.reasons[1].startswith("folder: a.png cannot be read")
    assert found.reasons[2].startswith("the file cannot be parsed (")


def test_an_answer_of_a_process_that_a_file_took_over_is_refused(monkeypatch):
    monkeypatch.setattr(torch_loader, "_ask", lambda files, target, request: target.write(b"\x01\x02") and None)
    with pytest.raises(RefusedError, match="damaged or malicious"):
        read_c2pa(b"x")


def test_random_changes_of_a_file_are_an_outcome():
    content, random = signed(picture()), np.random.default_rng(0)
    start = content.find(b"caBX")
    for _ in range(12):
        damaged = bytearray(content)
        for place in random.integers(start, len(content), 3):
            damaged[place] = random.integers(256)
        with suppress(RefusedError):
            assert read_c2pa(bytes(damaged)) in (ABSENT, INVALID, VALID)


def test_sets_of_files_give_their_files(tmp_path):
    contents = [signed(picture(level)) for level in (1, 2)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for place, content in enumerate(contents):
            archive.writestr(f"{place}.png", content)
    (tmp_path / "sounds").mkdir()
    for name in "ab":
        (tmp_path / "sounds" / f"{name}.wav").write_bytes(sound())
    images, sounds = open_samples(tmp_path / "a.zip"), open_samples(tmp_path / "sounds")
    assert [images.file(place) for place in (0, 1)] == contents
    assert sounds.file(1) == sound()
    np.savez(tmp_path / "a.npz", np.zeros((3, 8, 8), np.uint8))
    assert not isinstance(open_samples(tmp_path / "a.npz"), HasFiles)
    (tmp_path / "sounds" / "b.wav").unlink()
    with pytest.raises(InputError, match=r"cannot read .*b.wav \(No such file or directory\)"):
        sounds.file(1)


@pytest.fixture
def context(home):
    return EvaluationContext(Settings(home=home), Plugins(), "cpu")


def written(tmp_path, context, modality="image"):
    file = tmp_path / "suite.yaml"
    file.write_text(
        f"name: marks\nversion: 1\nmodality: {modality}\nsamples: 24\nscorers: {{m: {{use: provenance-mark}}}}\n"
        "metrics: [{metric: mean, of: m/c2pa_present}, {metric: mean, of: m/c2pa_valid}]\n"
    )
    return load_suite(str(file), context.plugins)


def test_an_evaluation_scores_the_files_of_stored_samples(tmp_path, context):
    folder = tmp_path / "samples"
    folder.mkdir()
    for place in range(24):
        plain = picture(place, "jpeg")
        content = signed(plain, "image/jpeg") if place < 12 else plain
        (folder / f"{place:02}.jpg").write_bytes(changed(content, b"tests", 0) if place < 3 else content)
    checkpoint = Checkpoint.open(folder, "marked", 1)
    number = evaluate(plan(context, checkpoint, "samples", {}, written(tmp_path, context)), context)
    with context.database.read() as session:
        rows = {row.label: row for row in queries.scores(session, evaluation=number)}
    assert (rows["c2pa_present"].value, rows["c2pa_valid"].value, rows["m_failed"].value) == (0.5, 9 / 24, 0.0)
    assert 0 < rows["c2pa_valid"].ci_low < 9 / 24 < rows["c2pa_valid"].ci_high < 1


def test_samples_that_are_not_files_are_refused_before_any_work(tmp_path, context):
    np.savez(tmp_path / "a.npz", np.zeros((24, 8, 8), np.uint8))
    checkpoint = Checkpoint.open(tmp_path / "a.npz", "arrays", 1)
    with pytest.raises(InputError, match="'m' reads the files of the samples, but those of generator 'samples' are"):
        plan(context, checkpoint, "samples", {}, written(tmp_path, context))


def test_without_its_library_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("evalsvc.builtin.scorers.provenance_mark.LIBRARY", "no-such-package")
    with pytest.raises(InputError, match=r"pip install 'evalsvc\[provenance\]'"):
        ProvenanceMark(CPU)
