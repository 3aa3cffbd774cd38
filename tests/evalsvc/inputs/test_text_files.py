import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from evalsvc.builtin.demo.prose import prose_reference
from evalsvc.core.errors import InputError
from evalsvc.inputs.references import add_reference, open_reference
from evalsvc.inputs.sample_sets import open_samples
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import Texts

ODD = ["", "\x00nul", "שלום, مرحبا", "🙂 中文", "two\nlines\r\n", "x" * 1_000_000]


def read(path):
    samples = open_samples(path)
    assert samples.modality == "text"
    return list(samples.read(0, len(samples)).items)


def arrow(path, texts, column="text"):
    table = pa.table({column: pa.array(texts), "id": list(range(len(texts)))})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def dataset(folder, texts):
    """As ``datasets.Dataset.save_to_disk`` leaves it, the results of a ``map`` beside it."""
    folder.mkdir(parents=True)
    arrow(folder / "data-00000-of-00002.arrow", texts[:2])
    arrow(folder / "data-00001-of-00002.arrow", texts[2:])
    arrow(folder / "cache-1234.arrow", ["not of the set"])
    (folder / "state.json").write_text(json.dumps({"_data_files": []}))
    (folder / "dataset_info.json").write_text("{}")


def test_every_form_gives_the_same_documents_in_order(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n\n" for text in ODD), encoding="utf-8")
    pyarrow.parquet.write_table(pa.table({"text": ODD}), tmp_path / "a.parquet")
    dataset(tmp_path / "saved", ODD)
    (tmp_path / "folder").mkdir()
    for number, text in enumerate(ODD):
        (tmp_path / "folder" / f"{number}.txt").write_bytes(text.encode())
    for name in ("a.jsonl", "a.parquet", "saved", "folder"):
        assert read(tmp_path / name) == ODD, name


def test_a_text_file_is_one_document_or_several_parted_by_form_feeds(tmp_path):
    (tmp_path / "one.txt").write_bytes("\ufeffone\r\n\r\nstill one\n".encode())
    assert read(tmp_path / "one.txt") == ["one\r\n\r\nstill one\n"]
    (tmp_path / "two.txt").write_text("first\n\f\nsecond\n\nstill second\n")
    assert read(tmp_path / "two.txt") == ["first", "second\n\nstill second"]


def test_a_slice_of_a_table_is_that_slice(tmp_path):
    dataset(tmp_path / "saved", ODD)
    assert open_samples(tmp_path / "saved").read(1, 4) == Texts(tuple(ODD[1:4]))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"fine\n\xff", r"a.txt is not UTF-8 \(byte 5 is 0xff\): convert it"),
        ("a.jsonl", b'"fine"\n"\xe9"', r"a.jsonl is not UTF-8 \(byte 8 is 0xe9\)"),
        ("a.jsonl", b'"fine"\n"\\ud800 half"', "a.jsonl, line 2 contains a lone surrogate"),
        ("a.jsonl", b"\n\n", "contains no documents"),
        ("a.parquet", b"PAR1 nothing", "a.parquet is not a readable Parquet file"),
        ("a.arrow", b"nothing", "a.arrow is not a readable Arrow file"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        open_samples(tmp_path / name)


def test_columns_that_hold_no_text_are_named(tmp_path):
    for column, reason in (
        ({"body": ["a"]}, r"no column 'text' \(it has body\)"),
        ({"text": [1]}, "has a column 'text' of int64: convert it to strings"),
        ({"text": ["a", None]}, r"has 1 empty cells \(null\)"),
        ({"text": pa.array([], pa.string())}, "contains no rows"),
    ):
        pyarrow.parquet.write_table(pa.table(column), tmp_path / "a.parquet")
        with pytest.raises(InputError, match=reason):
            open_samples(tmp_path / "a.parquet")
    dataset(tmp_path / "saved" / "train", ODD)
    dataset(tmp_path / "saved" / "test", ODD)
    (tmp_path / "saved" / "dataset_dict.json").write_text("{}")
    with pytest.raises(InputError, match=r"contains several splits \(test, train\): set 'split' to one of them"):
        open_samples(tmp_path / "saved")


def test_images_with_a_licence_beside_them_stay_images(tmp_path):
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    (tmp_path / "LICENSE.txt").write_text("CC0")
    assert open_samples(tmp_path).modality == "image"


def test_a_reference_of_texts_is_added_and_watched(tmp_path, database):
    (tmp_path / "train.txt").write_text("one\f two")
    (tmp_path / "test.jsonl").write_text('"three"\n"four"\n')
    row = add_reference(database, Plugins(), "mine", tmp_path / "train.txt", tmp_path / "test.jsonl")
    assert (row.modality, row.count, row.heldout_count) == ("text", 2, 2)
    (tmp_path / "train.txt").write_text("changed")
    with pytest.raises(InputError, match="has changed"):
        open_reference(database, Plugins(), "mine")


def test_the_shipped_prose_has_a_held_out_part_that_shares_no_passage():
    prose = prose_reference()
    train, heldout = (list(split.read(0, len(split)).items) for split in (prose.train, prose.heldout))
    assert (len(train), len(heldout)) == (323, 69)
    assert sum(map(len, train + heldout)) > 400_000
    together = " ".join(train)
    assert not any(text[at : at + 120] in together for text in heldout for at in range(0, len(text) - 120, 120))


def test_offsets_of_a_damaged_arrow_file_lead_nowhere(tmp_path):
    with pa.ipc.new_stream(tmp_path / "a.arrow", pa.schema([("text", pa.string())])) as stream:
        stream.write_table(pa.table({"text": ["abc", "def"]}))
    offsets = np.array([0, 3, 6], "<i4")
    data = (tmp_path / "a.arrow").read_bytes()
    assert data.count(offsets.tobytes()) == 1
    (tmp_path / "a.arrow").write_bytes(data.replace(offsets.tobytes(), (offsets * 2**27).tobytes()))
    with pytest.raises(InputError, match="a.arrow is not a readable Arrow file"):
        open_samples(tmp_path / "a.arrow")
