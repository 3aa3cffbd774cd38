"""Items from saved datasets, the hub, files of media, and examples before prompts."""

import io
import json
import wave
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from evalsvc.core.errors import InputError
from evalsvc.inputs.items.media import read_media
from evalsvc.inputs.items.reading import read_items
from evalsvc.inputs.items.schema import Items
from evalsvc.inputs.items.splits import files_of_split
from evalsvc.inputs.items.storage import load_media, store_items
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.references import add_reference, open_reference
from evalsvc.plugins.items import Message
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import Audio, Videos
from evalsvc.store.artifacts import Artifacts

from .video_files import numbers, write

QUESTIONS = [{"q": f"{i}+1?", "a": str(i + 1)} for i in range(5)]


def read(file, **columns):
    return read_items(Items(file=str(file), **columns)).items


def saved(folder, rows):
    """A split as ``Dataset.save_to_disk`` writes it."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as s:
        s.write_table(table)
    (folder / "state.json").write_text("{}")


def lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def png(level=7, size=(2, 3)):
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def wav(rate=8000, seconds=0.01):
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(np.full(int(rate * seconds), 999, "<i2").tobytes())
    return file.getvalue()


def test_a_saved_dataset_is_read_by_split(tmp_path):
    saved(tmp_path / "both" / "test", QUESTIONS)
    saved(tmp_path / "both" / "train", QUESTIONS[:2])
    whole = read(lines(tmp_path / "q.jsonl", QUESTIONS), prompt="q", target="a")
    assert read(tmp_path / "both", split="test", prompt="q", target="a").sha256 == whole.sha256
    assert read(tmp_path / "both" / "test", prompt="q", target="a").sha256 == whole.sha256
    with pytest.raises(InputError, match=r"contains several splits .test, train.: set 'split'"):
        read(tmp_path / "both", prompt="q")
    with pytest.raises(InputError, match="has no split 'tes': the nearest are test"):
        read(tmp_path / "both", split="tes", prompt="q")


@pytest.mark.parametrize(
    ("split", "found"),
    [
        ("test", ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"]),
        ("a/train", ["a/train/0000.parquet"]),
        ("b/train", ["b/train-00000-of-00001.parquet"]),
        ("train", "several splits .a/train, b/train"),
        ("", "several splits"),
        ("dev", "has no split 'dev'"),
    ],
)
def test_a_split_is_found_by_the_names_of_its_files(split, found):
    names = [
        "data/test-00001-of-00002.parquet",
        "data/test-00000-of-00002.parquet",
        "a/train/0000.parquet",
        "b/train-00000-of-00001.parquet",
    ]
    if isinstance(found, list):
        assert files_of_split(names, split, "x") == found
        return
    with pytest.raises(InputError, match=found):
        files_of_split(names, split, "x")


def test_a_dataset_of_the_hub_is_read_by_split_and_revision(tmp_path, monkeypatch):
    asked = []

    def info(self, name, revision=None):
        asked.append((name, revision))
        if name == "org/gone":
            raise huggingface_hub.errors.OfflineModeIsEnabled("no network")
        names = ["default/test/0000.parquet"] if revision == "refs/convert/parquet" else ["data.json"]
        return SimpleNamespace(sha="c0ffee", siblings=[SimpleNamespace(rfilename=each) for each in names])

    def download(name, file, *, repo_type, revision):
        asked.append((name, file, repo_type, revision))
        pa.parquet.write_table(pa.Table.from_pylist(QUESTIONS), tmp_path / "0.parquet")
        return str(tmp_path / "0.parquet")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    items = read("hub:org/name", split="test", prompt="q", target="a")
    assert items.sha256 == read(lines(tmp_path / "q.jsonl", QUESTIONS), prompt="q", target="a").sha256
    assert asked[-1] == ("org/name", "default/test/0000.parquet", "dataset", "c0ffee")
    with pytest.raises(InputError, match="contains no Parquet files"):
        read("hub:org/name", revision="main", prompt="q")
    with pytest.raises(InputError, match=r"cannot read hub:org/gone from the hub .no network.: check the name"):
        read("hub:org/gone", prompt="q")


def test_a_dataset_of_the_hub_is_a_reference_by_the_snapshot_of_a_commit(tmp_path, monkeypatch, database):
    asked = []

    def info(self, name, revision=None):
        asked.append((name, revision))
        return SimpleNamespace(sha="c0ffee", siblings=[SimpleNamespace(rfilename=f"a/{each}/0000.parquet") for each in
                                                       ("train", "test")])  # fmt: skip

    def download(name, *, repo_type, revision, allow_patterns):
        asked.append((name, repo_type, revision, allow_patterns))
        file = tmp_path / revision / allow_patterns[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        pa.parquet.write_table(pa.table({"image": [png(1), png(2)], "label": [1, 0]}), file)
        return str(tmp_path / revision)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    hub = Path("hub:org/name@v2")
    row = add_reference(database, Plugins(), "mine", hub, hub, reading=ReadingOptions(split="train"),
                        heldout_reading=ReadingOptions(split="a/test"))  # fmt: skip
    assert asked[:2] == [("org/name", "v2"), ("org/name", "dataset", "c0ffee", ["a/train/0000.parquet"])]
    assert (row.path, row.reading, row.heldout_reading) == (
        str(tmp_path / "c0ffee"), {"split": "a/train"}, {"split": "a/test"})  # fmt: skip
    assert open_reference(database, Plugins(), "mine").split("train").labels.tolist() == [1, 0]
    with pytest.raises(InputError, match=r"contains several splits .a/test, a/train."):
        add_reference(database, Plugins(), "other", hub, None)


def test_examples_come_before_each_prompt_and_are_never_the_item_itself(tmp_path):
    few = {"prompt": "Q: {q}\nA:", "target": "a"}
    file = lines(tmp_path / "q.jsonl", QUESTIONS)
    plain, items = read(file, **few), read(file, **few, examples={"count": 2})
    assert items.ids == plain.ids
    assert items.conditions != plain.conditions
    for prompt, own in zip(items.prompts, plain.prompts, strict=True):
        *shown, last = prompt.split("\n\n")
        assert last == own
        assert len(shown) == 2
        assert not any(each.startswith(own) for each in shown)
        assert {f"Q: {row['q']}\nA: {row['a']}" for row in QUESTIONS} > set(shown)
    others = lines(tmp_path / "train.jsonl", [{"q": "0+0?", "a": "0"}])
    shown = read(file, **few, examples={"count": 1, "file": str(others)})
    assert shown.prompts[0] == f"Q: 0+0?\nA: 0\n\n{plain.prompts[0]}"
    with pytest.raises(InputError, match="has 4 examples beside an item itself"):
        read(file, **few, examples={"count": 5})


def test_examples_of_a_chat_are_turns_after_its_system_message(tmp_path):
    def chat(text):
        return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]

    file = lines(tmp_path / "c.jsonl", [{"m": chat("1?"), "a": "one"}, {"m": chat("2?"), "a": "two"}])
    first = read(file, prompt="m", target="a", examples={"count": 1}).prompts[0]
    roles = ["system", "user", "assistant", "user"]
    texts = ["Be brief.", "2?", "two", "1?"]
    assert first == tuple(map(Message, roles, texts))


def test_media_are_read_from_cells_as_from_files(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    beside = read(lines(tmp_path / "i.jsonl", [{"s": "a.png"}]), source="s")
    pa.parquet.write_table(pa.table({"s": [{"bytes": png(), "path": "x.png"}]}), tmp_path / "feature.parquet")
    pa.parquet.write_table(pa.table({"s": [png()]}), tmp_path / "bytes.parquet")
    for name in ("feature.parquet", "bytes.parquet"):
        assert read(tmp_path / name, source="s").sha256 == beside.sha256
    assert beside.media == {"source": "image"}


def test_sounds_and_videos_are_read_whole(tmp_path):
    frames = np.arange(2 * 3 * 4 * 1, dtype=np.uint8).reshape(2, 3, 4, 1)
    np.save(tmp_path / "v.npy", frames)
    (tmp_path / "s.wav").write_bytes(wav())
    read_ = read_items(
        Items(file=str(lines(tmp_path / "m.jsonl", [{"s": "s.wav", "t": "v.npy"}])), source="s", target="t")
    )
    artifacts = Artifacts(tmp_path / "artifacts")
    store_items(artifacts, read_.items, read_.media)
    sound = load_media(artifacts, read_.items.sha256, read_.items.sources * 2)
    video = load_media(artifacts, read_.items.sha256, read_.items.targets[0])
    assert isinstance(sound, Audio)
    assert (len(sound), sound.rate, len(sound.waves[0])) == (2, 8000, 80)
    assert isinstance(video, Videos)
    assert video.pixels.shape == (1, 2, 1, 3, 4)


def test_encoded_videos_are_media_in_files_and_in_cells(tmp_path):
    names = ("a.mp4", "b.gif", "c.avi", "d.mkv")
    for name, codec in zip(names, ("libx264", "gif", "mpeg4", "libx264"), strict=True):
        write(tmp_path / name, range(5), codec=codec, pixels="rgb8" if codec == "gif" else "yuv420p")
    files = read_items(Items(file=str(lines(tmp_path / "i.jsonl", [{"s": name} for name in names])), source="s"))
    cells = pa.table({"s": [(tmp_path / name).read_bytes() for name in names]})
    pa.parquet.write_table(cells, tmp_path / "cells.parquet")
    assert [name.rpartition(".")[2] for name in read(tmp_path / "cells.parquet", source="s").sources] == [
        *("mp4", "gif", "avi", "webm")
    ]
    artifacts = Artifacts(tmp_path / "artifacts")
    store_items(artifacts, files.items, files.media)
    videos = load_media(artifacts, files.items.sha256, files.items.sources)
    assert isinstance(videos, Videos)
    assert [numbers(clip) for clip in videos.pixels] == [[0, 1, 2, 3, 4]] * 4
    write(tmp_path / "e.mp4", range(6))
    (tmp_path / "f.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:-9])
    for name, fault in (("e.mp4", "has frames of shape"), ("f.mp4", r"'s' is not a readable video \(it is truncated")):
        rows = lines(tmp_path / "bad.jsonl", [{"s": "a.mp4"}, {"s": name}])
        bad = read_items(Items(file=str(rows), source="s"))
        with pytest.raises(InputError, match=fault):
            store_items(artifacts, bad.items, bad.media)


HOSTILE = {
    "outside": ("../secret.png", "names a file outside of"),
    "link": ("link.png", "names a file outside of"),
    "absolute": ("/etc/x.png", "names a file outside of"),
    "missing": ("gone.png", "names the file 'gone.png', which is not in"),
    "address": ("https://x.org/a.png", "which is not in"),
    "null": ("a\0.png", "the name of a file|which is not in"),
    "folder": ("folder.png", "which is not in"),
    "empty": ("", "has no file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_name_of_a_file_stays_in_its_folder(case, tmp_path):
    (tmp_path / "secret.png").write_bytes(png())
    (folder := tmp_path / "items").mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "folder.png").mkdir()
    (folder / "a.png").write_bytes(png())
    name, message = HOSTILE[case]
    with pytest.raises(InputError, match=rf"line 2: 's' .*({message})"):
        read(lines(folder / "i.jsonl", [{"s": "a.png"}, {"s": name}]), source="s")


def bomb():
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (10**5).to_bytes(4) * 2 + b"\x08\x02\x00\x00\x00"
    return header + b"\x00" * 40


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


DAMAGED = {
    "truncated.png": (png()[:40], "'s' is not a readable image"),
    "bomb.png": (bomb(), "looks like a decompression bomb"),
    "half.wav": (wav()[:-40], "'s' is not a readable sound file"),
    "pickle.npy": (npy(np.array([None])), "not a readable array file"),
    "flat.npy": (npy(np.zeros(3, np.uint8)), "not a video"),
    "other.wav": (wav(16000), "has 16000 Hz, and .* has 8000 Hz"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_media_are_an_error_of_their_row_before_any_work(name, tmp_path):
    content, message = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    good = {"png": png(), "wav": wav(), "npy": b""}[name[-3:]]
    (tmp_path / f"good.{name[-3:]}").write_bytes(good)
    rows = [*([{"s": f"good.{name[-3:]}"}] if good else []), {"s": name}]
    loaded = read_items(Items(file=str(lines(tmp_path / "i.jsonl", rows)), source="s"))
    with pytest.raises(InputError, match=rf"i.jsonl, line {len(rows)}: .*{message}"):
        store_items(Artifacts(tmp_path / "artifacts"), loaded.items, loaded.media)


def test_images_keep_their_sizes_and_are_read_once():
    seen = []

    def content(name):
        seen.append(name)
        return png(size=(2, 3) if name == "a.png" else (4, 5))

    samples = read_media(content, ["a.png", "b.png", "a.png"])
    assert [tuple(item.shape) for item in samples.items] == [(3, 2, 3), (3, 4, 5), (3, 2, 3)]
    assert seen == ["a.png", "b.png"]


def test_a_column_of_mixed_media_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.wav").write_bytes(wav())
    with pytest.raises(InputError, match="column 's' mixes audio and image"):
        read(lines(tmp_path / "i.jsonl", [{"s": "a.png"}, {"s": "b.wav"}]), source="s")
