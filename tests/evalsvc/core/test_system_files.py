"""What systems and tools leave among samples is no sample, in any container."""

import gzip
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from evalsvc.builtin.generators.stored import StoredSamples
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.core.files.system_files import is_system_file
from evalsvc.inputs.prompts import read_prompts
from evalsvc.inputs.references import add_reference, open_reference
from evalsvc.inputs.sample_sets import open_samples
from evalsvc.plugins.registry import Plugins
from evalsvc.store.tables import Reference

FORK = b"\0\5\26\7\0\2\0\0Mac OS X        "
JUNK = [
    ".ipynb_checkpoints/0-checkpoint.png",
    "cat/.ipynb_checkpoints/0-checkpoint.png",
    "@eaDir/x/0.png",
    "cat/@eaDir/SYNOPHOTO_THUMB_M.jpg",
    ".Trash-0/files/0.png",
    "._0.png",
    "__MACOSX/cat/._0.png",
    "#recycle/0.png",
    "$RECYCLE.BIN/S-1-5-21/0.png",
    "lost+found/0.png",
    ".thumbnails/normal/0.png",
    "System Volume Information/0.png",
]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "cat").mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(random.integers(0, 256, (4, 4), dtype=np.uint8)).save(folder / "cat" / f"{i}.png")
    return folder


def spoil(folder, content=FORK):
    for name in JUNK:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", ".0.png.swp"):
        (folder / name).write_bytes(b"\0")
    (folder / ".Trash-0" / "gone.png").symlink_to(folder / "nowhere.png")


@pytest.mark.parametrize(
    "name", ["cat/0.png", "a.b/0.png", "desktop.ini.png", "recycle/0.png", "trash/0.png", "…/0.png"]
)
def test_other_names_are_samples(name):
    assert not is_system_file(name)


@pytest.mark.parametrize("name", [*JUNK, "THUMBS.DB", "x/.hidden.wav", "__macosx/0.png"])
def test_hidden_and_system_files_are_none(name):
    assert is_system_file(name)


def test_a_folder_is_the_same_set_and_has_the_same_digest_whatever_systems_left_in_it(pictures, tmp_path):
    clean = open_samples(pictures)
    before = clean.digest(), clean.read(0, 4).pixels.tolist()
    assert clean.digest() == digest_path(pictures)
    spoil(pictures, (pictures / "cat" / "0.png").read_bytes())
    spoilt = open_samples(pictures)
    assert len(spoilt) == 4
    assert (spoilt.digest(), spoilt.read(0, 4).pixels.tolist()) == before
    assert sorted(StoredSamples.checkpoint_files(pictures)) == [f"cat/{i}.png" for i in range(4)]


def test_a_set_inside_a_hidden_folder_is_read(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / ".cache" / "@eaDir" / "set")
    assert len(open_samples(tmp_path / ".cache" / "@eaDir" / "set")) == 4


@pytest.mark.parametrize("name", ["set.zip", "set.ZIP", "set.Zip"])
def test_an_archive_packed_on_a_mac_is_the_same_set(pictures, tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file in sorted(pictures.glob("cat/*.png")):
            archive.write(file, f"set/cat/{file.name}")
        plain = digest_path(pictures)
        archive.writestr("set.png/", b"")
        archive.writestr("__MACOSX/set/cat/._0.png", FORK)
        archive.writestr("set/.ipynb_checkpoints/0-checkpoint.png", (pictures / "cat" / "0.png").read_bytes())
        archive.writestr("set/.DS_Store", b"\0")
    found = open_samples(tmp_path / name)
    assert len(found) == 4
    assert np.array_equal(found.read(0, 4).pixels, open_samples(pictures).read(0, 4).pixels)
    assert found.digest() not in (digest_path(tmp_path / name), plain)
    # Who had to skip the forks may go on to do so.
    assert len(open_samples(tmp_path / name, ["__MACOSX/set/cat/._0.png"])) == 4


def test_an_archive_without_system_files_keeps_its_digest(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in pictures.glob("cat/*.png"):
            archive.write(file, file.name)
    assert open_samples(tmp_path / "set.zip").digest() == digest_path(tmp_path / "set.zip")


def test_texts_and_sounds_have_no_hidden_ones_either(tmp_path):
    from scipy.io import wavfile

    for kind in ("texts", "sounds"):
        (tmp_path / kind / ".ipynb_checkpoints").mkdir(parents=True)
    for name in ("a.txt", "b.txt", ".ipynb_checkpoints/a-checkpoint.txt", "._a.txt"):
        (tmp_path / "texts" / name).write_text(name)
    for name in ("a.wav", "b.WAV", ".ipynb_checkpoints/a-checkpoint.wav", "._a.wav"):
        wavfile.write(tmp_path / "sounds" / name, 8000, np.ones(9, np.float32))
    assert open_samples(tmp_path / "texts").read(0, 9).items == ("a.txt", "b.txt")
    assert len(open_samples(tmp_path / "sounds")) == 2


@pytest.mark.parametrize("name", ["x.NPZ", "x.Npy", "x.JSONL", "x.TXT", "x.PARQUET"])
def test_endings_are_read_in_any_case(tmp_path, name):
    import pyarrow as pa
    import pyarrow.parquet

    with (tmp_path / name).open("wb") as file:
        if name == "x.NPZ":
            np.savez(file, np.zeros((3, 4, 4), np.uint8))
        elif name == "x.Npy":
            np.save(file, np.zeros((3, 4, 4), np.uint8))
        elif name == "x.PARQUET":
            pyarrow.parquet.write_table(pa.table({"text": ["a", "b", "c"]}), file)
        else:
            file.write(b'"a"\n"b"\n"c"\n' if name == "x.JSONL" else b"a\fb\fc")
    assert len(open_samples(tmp_path / name)) == 3


def test_prompts_are_read_by_their_ending_in_any_case(tmp_path):
    (tmp_path / "p.JSONL").write_text('{"prompt": "a boat"}\n')
    assert read_prompts(tmp_path / "p.JSONL") == ("a boat",)
    (tmp_path / "p.CSV").write_text("a boat\n")
    with pytest.raises(InputError, match="cannot read prompts"):
        read_prompts(tmp_path / "p.CSV")


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("x.json", r"write its texts to a \.jsonl"),
        ("x.csv", r"write its texts to a \.jsonl"),
        ("x.jsonl.gz", "unpack it"),
        ("x.tar.gz", "unpack it"),
        ("x.TGZ", "unpack it"),
        ("x.png", "pass its folder"),
        ("x.wav", "pass its folder"),
        ("x.xyz", r"use a folder, \.zip"),
        ("x", "without a suffix"),
    ],
)
def test_a_file_that_is_not_read_says_what_to_do_with_it(tmp_path, name, way_out):
    (tmp_path / name).write_bytes(gzip.compress(b'"text"\n'))
    with pytest.raises(InputError, match=rf"{name}: cannot read .* as samples: .*{way_out}|{name}: .*{way_out}"):
        open_samples(tmp_path / name)


def test_a_record_without_a_text_names_the_keys_that_it_has(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"generated_text": "a", "id": 1}) + "\n")
    with pytest.raises(InputError, match=r"line 1 .* 'text' \(it has 'generated_text', 'id'\)"):
        open_samples(tmp_path / "x.jsonl")


@pytest.mark.parametrize("name", ["one.txt", "one.jsonl", "one.npz"])
def test_a_reference_of_a_single_sample_is_refused(context, tmp_path, name):
    if name == "one.npz":
        np.savez(tmp_path / name, np.zeros((1, 4, 4), np.uint8))
    else:
        (tmp_path / name).write_text('"a long text\\n of several lines"\n')
    said = r" \(a \.txt is one document, or several separated by form feeds" if name == "one.txt" else ""
    with pytest.raises(InputError, match=f"{name} contains a single (text|image){said}.*two or more"):
        add_reference(context.database, Plugins(), "one", tmp_path / name, None)


def test_a_reference_that_counted_hidden_files_goes_on_without_them_under_another_digest(context, pictures):
    """Its files are as they were added; features of the larger set are never taken for those of the smaller."""
    spoil(pictures, (pictures / "cat" / "0.png").read_bytes())
    add_reference(context.database, Plugins(), "pictures", pictures, None)
    with context.database.write() as session:
        row = session.get_one(Reference, "pictures")
        now, row.count, row.digest = row.digest, 16, "0" * 64
    opened = open_reference(context.database, Plugins(), "pictures")
    assert (len(opened.split("train")), opened.digests["train"]) == (4, now)
    assert add_reference(context.database, Plugins(), "pictures", pictures, None).count == 4
    (pictures / "cat" / "0.png").unlink()
    with pytest.raises(InputError, match="exists with other content"):
        add_reference(context.database, Plugins(), "pictures", pictures, None)


def test_a_name_that_an_archive_holds_twice_is_one_sample(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("0.png", "1.png"):
            archive.write(pictures / "cat" / name, name)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.write(pictures / "cat" / "2.png", "0.png")
    assert len(open_samples(tmp_path / "set.zip")) == 2
