"""Samples in tar archives, as WebDataset writes them."""

import io
import json
import tarfile

import numpy as np
import pytest
import webdataset
from PIL import Image

from evalsvc.core.errors import InputError
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.sample_sets import open_samples, unreadable
from evalsvc.plugins.samples import Texts

N = 10
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 6, 7, 3), dtype=np.uint8)


def opened(path, skip=(), **reading):
    return open_samples(path, skip, ReadingOptions(**reading))


def pixels(samples):
    return samples.pixels.permute(0, 2, 3, 1).numpy()


def pack(path, members, **how):
    """A tar of members: names with contents, or TarInfo objects."""
    with tarfile.open(path, "w", **how) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Written by the package webdataset itself."""
    path = tmp_path_factory.mktemp("shards") / "train-000000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for i, each in enumerate(PIXELS):
            about = {"year": 2000 + i % 2, "bird": ["owl", "jay"][i % 2], "deep": {"x": 1}}
            writer.write({"__key__": f"a/{i:04}", "png": each, "cls": i % 3, "txt": f"bird {i}", "json": about})
    return path


def test_a_shard_is_read_as_webdataset_wrote_it(shard):
    samples = opened(shard)
    assert np.array_equal(pixels(samples.read(0, N)), PIXELS)
    assert np.array_equal(pixels(samples.read_at([7, 2])), PIXELS[[7, 2]])
    assert samples.labels.tolist() == [i % 3 for i in range(N)]
    assert list(samples.names) == [f"a/{i:04}" for i in range(N)]
    assert opened(shard, column="txt").read(3, 5) == Texts(("bird 3", "bird 4"))


def test_fields_of_json_are_labels_and_conditions(shard):
    samples = opened(shard, labels="bird", where=["year=2001", "cls!=0"])
    assert samples.labels.tolist() == [0, 0, 0]
    assert samples.classes == ("jay", "owl")
    assert np.array_equal(pixels(samples.read(0, 9)), PIXELS[[1, 5, 7]])
    with pytest.raises(InputError, match=r"has no column 'jpg' .it has .*png.*, year, bird."):
        opened(shard, column="jpg")


def test_shards_of_a_folder_are_one_set_by_split(tmp_path):
    for split, number, rows in (("train", 0, range(4)), ("train", 1, range(4, 8)), ("val", 0, range(8, N))):
        pack(tmp_path / f"{split}-{number:06}.tar", [(f"{i}.png", png(PIXELS[i])) for i in rows])
    assert np.array_equal(pixels(opened(tmp_path, split="train").read(2, 6)), PIXELS[2:6])
    with pytest.raises(InputError, match=r"contains several splits \(train, val\): set 'split' to one of them"):
        opened(tmp_path)
    with pytest.raises(InputError, match=r"train-{000000..000001}.tar does not exist: pass the folder of the shards"):
        opened(tmp_path / "train-{000000..000001}.tar")


def test_rows_without_a_member_are_skipped_by_name_and_columns_are_read_together(tmp_path):
    members = [(f"{i}.{'png' if i % 2 else 'PPM'}", png(PIXELS[i])) for i in range(4)]
    path = pack(tmp_path / "mixed.tar", [("README", b"about"), ("._0.png", b"of macOS"), *members])
    with pytest.raises(InputError, match=r"several columns of samples .ppm, png.: name one with the option column"):
        opened(path)
    assert np.array_equal(pixels(opened(path, column="png;ppm").read(0, 4)), PIXELS[:4])
    assert unreadable(opened(path, column="png")) == ("0", "2")
    assert np.array_equal(pixels(opened(path, ["0", "2"], column="png").read(0, 4)), PIXELS[[1, 3]])


def link(name, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("../0.png", b"x")], r"contains '\.\./0\.png', a name that leads out of the archive: rename it"),
        ([("/0.png", b"x")], "a name that leads out of the archive"),
        ([(link("0.png"), b"")], "contains '0.png', which is not a plain file: pack the files themselves"),
        ([(link("0.png", tarfile.LNKTYPE), b"")], "which is not a plain file"),
        ([(link("0.png", tarfile.CHRTYPE), b"")], "which is not a plain file"),
        ([("0.png", b"x"), ("0.png", b"y")], "contains 0.png twice: rename one"),
        ([("0.tar", b"x"), ("1.tar", b"x")], "column 'tar' has neither images nor sounds of a known format"),
        ([("README", b"x")], "x.tar contains no rows"),
        ([(f"0.{i}", b"x") for i in range(65)], "has members with more than 64 ends of names, such as .64"),
        ([("0.png", png(PIXELS[0])), ("0.json", b"{")], "0.json is not valid JSON"),
    ],
)
def test_a_hostile_or_odd_archive_is_refused_in_one_sentence(tmp_path, members, reason):
    with pytest.raises(InputError, match=reason) as error:
        opened(pack(tmp_path / "x.tar", members)).read(0, 1)
    assert "\n" not in str(error.value)


def test_a_cut_or_damaged_archive_is_an_error_or_reads_what_it_says(tmp_path):
    whole = pack(tmp_path / "x.tar", [(f"{i}.png", png(PIXELS[i])) for i in range(N)]).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    with pytest.raises(InputError, match=r"cut\.tar is (truncated|not a readable tar archive)"):
        opened(tmp_path / "cut.tar")
    (tmp_path / "text.tar").write_bytes(b"no archive at all" * 50)
    with pytest.raises(InputError, match=r"text\.tar is not a readable tar archive"):
        opened(tmp_path / "text.tar")
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole[:4096])
        at = 512 * int(rng.integers(0, 4)) + int(rng.integers(0, 345))
        damaged[at] = int(rng.integers(0, 256))
        start = at // 512 * 512
        sums = sum(damaged[start : start + 148]) + 8 * 32 + sum(damaged[start + 156 : start + 512])
        damaged[start + 148 : start + 156] = b"%06o\0 " % sums
        (tmp_path / "bad.tar").write_bytes(damaged)
        assert fault(tmp_path / "bad.tar").count("\n") == 0


def fault(path):
    try:
        opened(path).read(0, 2)
    except InputError as error:
        return str(error)
    return ""


def test_numbers_of_classes_may_be_missing_and_texts_are_numbered(tmp_path):
    members = [(f"{i}.{end}", value) for i in range(4) for end, value in (("png", png(PIXELS[i])), ("cls", b" 2\n"))]
    assert opened(pack(tmp_path / "x.tar", members[:-1])).labels.tolist() == [2, 2, 2, -1]
    members[1] = ("0.cls", b"owl")
    assert opened(pack(tmp_path / "x.tar", members)).classes == ("2", "owl")
    members[0] = ("0.json", json.dumps({"k": "x"}).encode())
    assert opened(pack(tmp_path / "x.tar", members), column="png", where=["k!=y"]).names == ["0"]
