"""Folders of images as people have them: what cannot be read is named, or skipped and counted."""

import json
import os
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from evalsvc.api import schemas
from evalsvc.api.server.task_handlers import TaskHandlers
from evalsvc.cli import main
from evalsvc.core.settings import Settings
from evalsvc.store import tables
from evalsvc.store.session import Database

PLUGIN = """
import torch
from evalsvc import ExtractorInfo, register


@register("extractors", "colour")
class Colour:
    info = ExtractorInfo("colour", "image", {"mean": 3}, "none", "mean of each channel")

    def __init__(self, device):
        pass

    def extract(self, samples):
        return {"mean": samples.pixels.expand(-1, 3, -1, -1).float().mean((2, 3))}
"""
SUITE = """
name: small
version: 1
modality: image
reference: real
samples: 8
gallery: 4
extractors:
  colour: {use: colour}
metrics:
  - {metric: frechet_distance, features: colour/mean}
"""
SCORE = ("score", "made_1", "--generator", "samples", "--plugin", "colour.py", "--suite", "small.yaml", "--json")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])


def huge(path):
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


BAD = {
    "00cut.jpg": (truncated, "image file is truncated"),
    "00huge.png": (huge, "30000 x 30000: it would unpack to more than 67108864 pixels"),
    "00notes.png": (lambda path: path.write_text("Remember the milk.\n"), "its content is not a known image format"),
}


@pytest.fixture
def images(tmp_path, home, monkeypatch):
    """Nine images of three sizes and three modes, in a folder of samples and in one of references."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for folder in ("made_1", "real"):
        (tmp_path / folder).mkdir()
        for i in range(9):
            picture = Image.fromarray(random.integers(0, 256, ((32, 40, 57)[i % 3], 48, 3), dtype=np.uint8))
            picture.convert(("RGB", "L", "RGBA")[i % 3]).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "small.yaml").write_text(SUITE)
    (tmp_path / "colour.py").write_text(PLUGIN)
    return tmp_path


@pytest.fixture
def evalsvc(images, monkeypatch, capsys):
    """Runs a command in this process: what it printed on stdout and on stderr."""

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["evalsvc", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main.run()
        printed = capsys.readouterr()
        assert stopped.value.code == code, printed.err
        return printed

    return run


def provenance(home):
    with Database(Settings(home=home).database).read() as session:
        return [row.provenance for row in session.query(tables.Evaluation).order_by(tables.Evaluation.id)]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_reason_and_the_way_out(evalsvc, images, name):
    make, reason = BAD[name]
    make(images / "real" / name)
    refused = evalsvc("reference", "add", "real", "real", code=2).err
    assert f"error: real: {name} is not a readable image ({reason}" in refused
    assert refused.endswith("repair or remove it, or leave it out with --skip-bad\n")


@pytest.mark.parametrize(("count", "sentence"), [(0, "contains no images"), (1, "contains a single image, 0.png")])
def test_an_empty_folder_and_one_image_are_no_set(evalsvc, images, count, sentence):
    for file in sorted((images / "real").iterdir())[count:]:
        file.unlink()
    assert sentence in evalsvc("reference", "add", "real", "real", code=2).err


def test_too_few_images_are_told_before_any_is_scored(evalsvc, images):
    evalsvc("reference", "add", "real", "real")
    (images / "small.yaml").write_text(SUITE.replace("samples: 8", "samples: 10"))
    refused = evalsvc(*SCORE, code=2).err
    assert "made_1 contains 9 samples, but suite small@1 scores 10: add samples" in refused
    (images / "small.yaml").write_text(SUITE)
    evalsvc(*SCORE)  # nothing was recorded that the mended suite would have to differ from


def test_skipped_files_are_counted_in_the_provenance_and_scores_are_those_without_them(evalsvc, images, home):
    evalsvc("reference", "add", "real", "real")
    clean = json.loads(evalsvc(*SCORE).out)
    for name, (make, _) in BAD.items():
        make(images / "made_1" / name)
    refused = evalsvc(*SCORE, "--model", "again", code=2).err
    assert any(f"{name} is not a readable image" in refused for name in BAD)
    done = evalsvc(*SCORE, "--model", "again", "--skip-bad")
    assert "skipped 00cut.jpg and 2 more" in done.err
    assert [s["value"] for s in json.loads(done.out)[0]["scores"]] == [s["value"] for s in clean[0]["scores"]]
    without, *_, counted = [row["skipped"] for row in provenance(home) if row]
    assert without == {}
    assert counted == {"samples": {"count": 3, "first": sorted(BAD)}}


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take names of text alone")
def test_a_bad_file_whose_name_is_no_text_is_skipped_like_any_other(evalsvc, images):
    evalsvc("reference", "add", "real", "real")
    (images / "made_1" / os.fsdecode(b"0\xff.png")).write_bytes(b"nothing")
    assert "is not a readable image" in evalsvc(*SCORE, code=2).err
    done = evalsvc(*SCORE, "--skip-bad")
    assert json.loads(done.out)[0]["scores"]
    assert "skipped" in done.err


def test_a_reference_leaves_out_what_it_left_out_when_it_was_added(evalsvc, images, home):
    make, _ = BAD["00notes.png"]
    make(images / "real" / "00notes.png")
    assert "9 samples" in evalsvc("reference", "add", "real", "real", "--skip-bad").err
    evalsvc(*SCORE)
    (found,) = provenance(home)
    assert found["skipped"] == {"reference train": {"count": 1, "first": ["00notes.png"]}}


def test_a_queued_evaluation_carries_the_names_that_every_worker_skips(evalsvc, images, home):
    evalsvc("reference", "add", "real", "real")
    make, _ = BAD["00notes.png"]
    make(images / "made_1" / "00notes.png")
    evalsvc("submit", *SCORE[1:], "--skip-bad")
    with Database(Settings(home=home).database).read() as session:
        (row,) = session.query(tables.Evaluation)
        assert row.spec["options"] == {"skip": ["00notes.png"]}


def test_a_server_skips_for_its_clients_what_the_command_line_skips(evalsvc, images, home):
    evalsvc("reference", "add", "real", "real")
    evalsvc(*SCORE)
    make, _ = BAD["00notes.png"]
    make(images / "made_1" / "00notes.png")
    asked = schemas.EvaluationCreate(path="made_1", generator="samples", suite="small@1", skip_bad=True)
    id = TaskHandlers((images / "colour.py",)).submit(asked, images / "made_1").id
    with Database(Settings(home=home).database).read() as session:
        assert session.get_one(tables.Evaluation, id).spec["options"] == {"skip": ["00notes.png"]}


def test_only_stored_images_can_be_skipped(evalsvc, images):
    torch.save({}, images / "w_1.pt")
    refused = evalsvc("score", "w_1.pt", "--generator", "gan", "--suite", "small.yaml", "--skip-bad", code=2)
    assert "requires --generator samples (got 'gan')" in refused.err
