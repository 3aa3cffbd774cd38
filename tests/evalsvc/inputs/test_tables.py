"""Samples in the rows of Parquet and Arrow tables."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import scipy.io.wavfile
import torch
from PIL import Image

from evalsvc.core.errors import InputError
from evalsvc.inputs import torch_loader
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.references import add_reference, open_reference
from evalsvc.inputs.sample_sets import open_samples, unreadable
from evalsvc.inputs.tables import parquet
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import Texts

N = 12
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 6, 7, 3), dtype=np.uint8)
LANGUAGES = ["de", "en", None] * 4
CLASSES = {"features": {"label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}}


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


PNGS = [png(each) for each in PIXELS]


def table(**columns):
    images = [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(PNGS)]
    columns = {"image": images, "label": [i % 3 for i in range(N)], "lang": LANGUAGES, "Größe": [0.5] * N} | columns
    return pa.table({name: each for name, each in columns.items() if each is not None})


def write(path, rows, size=5):
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(rows, path, row_group_size=size)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
            stream.write_table(rows, max_chunksize=size)
    return path


def opened(path, skip=(), **reading):
    return open_samples(path, skip, ReadingOptions(**reading))


def fault(path):
    """The error of reading all samples; empty if there is none."""
    try:
        opened(path).read(0, N)
    except InputError as error:
        return str(error)
    return ""


def pixels(samples):
    return samples.pixels.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module", params=["t.parquet", "t.arrow"])
def images(request, tmp_path_factory):
    rows = table(id=[f"a{i}" for i in range(N)]).replace_schema_metadata({"huggingface": json.dumps({"info": CLASSES})})
    return write(tmp_path_factory.mktemp("tables") / request.param, rows)


def test_images_come_in_any_order_with_labels_classes_and_ids(images):
    samples = opened(images)
    assert (samples.modality, len(samples)) == ("image", N)
    assert np.array_equal(pixels(samples.read(0, 100)), PIXELS)
    assert np.array_equal(pixels(samples.read_at([11, 0, 7])), PIXELS[[11, 0, 7]])
    assert samples.labels.tolist() == [0, 1, 2] * 4
    assert samples.classes == ("cat", "dog", "owl")
    assert list(samples.names[:2]) == ["a0", "a1"]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        (["label=1"], [1, 4, 7, 10]),
        (["label=dog"], [1, 4, 7, 10]),
        (["lang!=de"], [1, 4, 7, 10]),  # an empty cell meets no condition
        (["label!=1", "lang=de"], [0, 3, 6, 9]),
        (["Größe=0.5", "id=a7"], [7]),
    ],
)
def test_rows_meet_all_conditions(images, where, kept):
    samples = opened(images, where=where)
    assert np.array_equal(pixels(samples.read(0, len(samples))), PIXELS[kept])
    assert samples.labels.tolist() == [row % 3 for row in kept]
    assert list(samples.names) == [f"a{row}" for row in kept]


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        ({"column": "picture"}, "has no column 'picture' .it has image, label, lang, Größe, id."),
        ({"column": "label"}, "has a column 'label' of int64: name another with the option column"),
        ({"labels": "class"}, "has no column 'class'"),
        ({"where": ["label=9"]}, "no row of .* meets label=9: change the option where"),
        ({"where": ["label=x"]}, "condition 'label=x': 'x' is not a value of the int64 column"),
        ({"where": ["label"]}, "invalid condition 'label': write COLUMN=VALUE or COLUMN!=VALUE"),
        ({"where": ["image=1"]}, "condition 'image=1' is about a column of struct"),
        ({"where": ["size=1"]}, "has no column 'size'"),
        ({"split": "train"}, "option split applies to folders of datasets, and .* is a file: omit it"),
        ({"rate": 8000}, "option rate does not apply to"),
    ],
)
def test_options_that_do_not_fit_a_table_are_refused_in_one_sentence(images, reading, reason):
    with pytest.raises(InputError, match=reason):
        opened(images, **reading)


@pytest.mark.parametrize(
    ("values", "labels", "classes"),
    [
        (["owl", "cat", None, "owl"] * 3, [1, 0, -1, 1] * 3, ("cat", "owl")),
        ([True, False] * 6, [1, 0] * 6, ()),
        ([3, -1, None] * 4, [3, -1, -1] * 4, ()),
        ([-2] * N, r"has the label -2 in column 'label': use integers from 0", ()),
        (pa.array([2**63] * N, pa.uint64()), "has the label 9223372036854775808 in column 'label'", ()),
        ([float("nan")] * N, "has a column 'label' of double: use integers or texts as labels", ()),
    ],
)
def test_labels_are_integers_or_texts_in_their_order(tmp_path, values, labels, classes):
    samples = opened(write(tmp_path / "t.parquet", table(label=values)), labels="label")
    if isinstance(labels, str):
        with pytest.raises(InputError, match=labels):
            samples.labels  # noqa: B018
        return
    assert samples.labels.tolist() == labels
    assert samples.classes == classes
    some = opened(write(tmp_path / "t.parquet", table(label=values)), where=["lang=de"])
    assert some.labels.tolist() == labels[::3]  # the numbers of all rows


def test_plain_bytes_and_files_beside_a_table_are_images_too(tmp_path):
    rows = table(image=None, raw=PNGS, file=[f"{i}.png" for i in range(N)])
    assert np.array_equal(pixels(opened(write(tmp_path / "t.parquet", rows)).read(0, N)), PIXELS)
    for i, each in enumerate(PNGS):
        (tmp_path / f"{i}.png").write_bytes(each)
    with pytest.raises(InputError, match=r"names files in column 'file': pass its folder, with the option column=file"):
        opened(tmp_path / "t.parquet", column="file")
    samples = opened(tmp_path, column="file", where=["label=2"])
    assert np.array_equal(pixels(samples.read(0, N)), PIXELS[2::3])
    before = samples.digest()
    (tmp_path / "2.png").write_bytes(PNGS[0])
    assert samples.digest() != before
    write(tmp_path / "t.parquet", table(image=[{"bytes": None, "path": f"{i}.png"} for i in range(N)]))
    assert np.array_equal(pixels(opened(tmp_path, column="image").read(1, 2)), PIXELS[1:2])


@pytest.mark.parametrize("outside", ["../secret.png", "/etc/hostname.png"])
def test_a_table_reads_no_file_outside_of_its_folder(tmp_path, outside):
    (tmp_path / "secret.png").write_bytes(PNGS[0])
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "t.arrow", pa.table({"file": [outside] * 2}))
    with pytest.raises(InputError, match=r"row 0 is not a readable image \(names a file outside of"):
        opened(tmp_path / "set", column="file").read(0, 1)


def test_broken_and_empty_images_are_named_by_their_row_and_skipped(tmp_path):
    images = [{"bytes": each, "path": None} for each in PNGS]
    images[3]["bytes"], images[8]["bytes"] = PNGS[3][:60], None
    path = write(tmp_path / "t.parquet", table(image=images))
    with pytest.raises(InputError, match=r"t\.parquet: row 3 is not a readable image .*--skip-bad"):
        opened(path).read(0, N)
    with pytest.raises(InputError, match=r"row 8 is not a readable image \(it is empty \(null\)\)"):
        opened(path).read_at([8])
    assert unreadable(opened(path)) == ("row 3", "row 8")
    kept = opened(path, unreadable(opened(path)))
    assert (len(kept), kept.skipped) == (N - 2, ("row 3", "row 8"))
    assert np.array_equal(pixels(kept.read(0, N)), PIXELS[[i for i in range(N) if i not in (3, 8)]])
    with pytest.raises(InputError, match="contains no 'row 12', which is to be skipped"):
        opened(path, ["row 12"])


def test_gray_images_keep_one_channel_unless_any_has_color(tmp_path):
    gray = [png(each[..., 0]) for each in PIXELS]
    samples = opened(write(tmp_path / "t.parquet", table(image=gray)))
    assert np.array_equal(samples.read(0, N).pixels[:, 0], PIXELS[..., 0])
    samples = opened(write(tmp_path / "t.parquet", table(image=[*gray[:-1], PNGS[-1]])))
    assert samples.read(0, 2).pixels.shape == (2, 3, 6, 7)


def test_an_image_of_900_megapixels_is_refused_before_it_is_decoded(tmp_path):
    bomb = bytearray(PNGS[0])
    bomb[16:24] = (30_000).to_bytes(4) * 2
    path = write(tmp_path / "t.parquet", table(image=[bytes(bomb)] * N))
    with pytest.raises(InputError, match=r"row 0 is not a readable image \(30000 x 30000: it would unpack"):
        opened(path).read(0, 1)


def test_texts_of_any_column_are_texts(tmp_path, images):
    assert opened(images, column="lang", where=["lang!=en"]).read(0, 2) == Texts(("de", "de"))
    with pytest.raises(InputError, match=r"has 4 empty cells \(null\) in column 'lang': drop those rows"):
        opened(images, column="lang")
    with pytest.raises(InputError, match="has several columns of samples .a, b.: name one with the option column"):
        opened(write(tmp_path / "t.parquet", pa.table({"a": PNGS, "b": PNGS})))


def wav(level, rate):
    file = io.BytesIO()
    scipy.io.wavfile.write(file, rate, np.full(rate // 10, level, np.int16))
    return file.getvalue()


def test_sounds_of_a_column_are_sounds_of_one_rate(tmp_path):
    rows = pa.table({"audio": [{"bytes": wav(2**i, 8000), "path": None} for i in range(4)], "speaker": list("abab")})
    samples = opened(write(tmp_path / "t.parquet", rows), labels="speaker")
    assert (samples.modality, samples.labels.tolist()) == ("audio", [0, 1, 0, 1])
    sounds = samples.read_at([3, 1])
    assert (sounds.rate, [float(wave[0]) * 2**15 for wave in sounds.waves]) == (8000, [8, 2])
    mixed = pa.table({"audio": [wav(1, 8000), wav(1, 16000), b"RIFF no sound", None]})
    path = write(tmp_path / "t.parquet", mixed)
    assert opened(path, rate=16000).read(0, 2).waves[0].shape == (1600,)
    assert unreadable(opened(path)) == ("row 2", "row 3")
    for places, reason in (([1], "row 1 has 16000 Hz and row 0 has 8000 Hz: resample them by option rate"),
                           ([2], "row 2 is not a readable sound file"), ([3], "row 3 has no sound")):  # fmt: skip
        with pytest.raises(InputError, match=reason):
            opened(path).read_at(places)


def test_a_folder_is_read_by_split_and_digested_by_the_files_of_the_split(tmp_path, database):
    (tmp_path / "data").mkdir()
    for name, rows in (("train-00000-of-00002", slice(0, 5)), ("train-00001-of-00002", slice(5, 9)),
                       ("test-00000-of-00001", slice(9, N))):  # fmt: skip
        write(tmp_path / "data" / f"{name}.parquet", table()[rows])
    with pytest.raises(InputError, match=r"contains several splits \(test, train\): set 'split' to one of them"):
        opened(tmp_path)
    row = add_reference(
        database, Plugins(), "both", tmp_path, tmp_path,
        reading=ReadingOptions(split="train"), heldout_reading=ReadingOptions(split="test"),
    )  # fmt: skip
    assert (row.count, row.heldout_count, row.reading) == (9, 3, {"split": "train"})
    (tmp_path / "data" / "validation-00000-of-00001.parquet").write_bytes(b"another split, downloaded later")
    train = open_reference(database, Plugins(), "both").split("train")
    assert np.array_equal(pixels(train.read(3, 8)), PIXELS[3:8])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", table()[:4])
    with pytest.raises(InputError, match="reference 'both' has changed"):
        open_reference(database, Plugins(), "both")


def test_row_groups_are_converted_once_and_only_where_they_are_read(tmp_path, monkeypatch):
    path, asked = write(tmp_path / "t.parquet", table(), size=2), []
    whole = torch_loader.write_cells
    monkeypatch.setattr(parquet, "BLOCK", 1)
    monkeypatch.setattr(parquet, "write_cells", lambda *given: (asked.append(given[3]), whole(*given)))
    samples = opened(path)
    asked.clear()
    for places in ([5, 4], [4], [0, 11], [10, 1]):
        assert np.array_equal(pixels(samples.read_at(places)), PIXELS[places])
    assert asked == [(2, 3), (0, 1), (5, 6)]


def test_images_are_decoded_ahead_by_other_processes_with_the_same_pixels_and_errors(tmp_path):
    images = list(PNGS)
    images[7] = b"no image"
    samples = opened(write(tmp_path / "t.parquet", table(image=images)))
    samples._feed._worth = 0
    samples.expect(order := [*range(N - 1, 7, -1), *range(7)])
    together = [samples.read_at(order[at : at + 2]).pixels for at in range(0, len(order), 2) if at + 2 <= len(order)]
    assert samples._feed._crew is not None
    assert np.array_equal(torch.cat(together).permute(0, 2, 3, 1).numpy(), PIXELS[order[:10]])
    samples.expect(range(N))
    samples.read(0, 7)
    with pytest.raises(InputError, match="row 7 is not a readable image .its content is not a known image format"):
        samples.read(7, 8)


def test_damage_anywhere_is_one_sentence(tmp_path):
    whole = write(tmp_path / "t.parquet", table()).read_bytes()
    rng = np.random.default_rng(0)
    for cut in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.parquet").write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"cut\.parquet is not a readable Parquet file"):
            opened(tmp_path / "cut.parquet")
    for _ in range(20):
        damaged = bytearray(whole)
        for place in rng.integers(4, len(whole), 6):
            damaged[place] ^= int(rng.integers(1, 256))
        (tmp_path / "bad.parquet").write_bytes(damaged)
        if reason := fault(tmp_path / "bad.parquet"):
            assert "bad.parquet" in reason
            assert "\n" not in reason


def test_a_compressed_arrow_file_is_refused_with_the_way_out(tmp_path):
    rows = pa.table({"image": [png(np.zeros((64, 64, 3), np.uint8))] * 50})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema, options=options) as s:
        s.write_table(rows)
    with pytest.raises(InputError, match="is compressed within: save it without compression"):
        opened(tmp_path / "t.arrow")
