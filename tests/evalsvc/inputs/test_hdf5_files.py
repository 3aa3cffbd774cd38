"""Images in HDF5 files."""

import importlib.util

import h5py
import numpy as np
import pytest

from evalsvc.core.errors import InputError
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.sample_sets import open_samples

N = 8
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 5, 6, 3), dtype=np.uint8)
LABELS = np.arange(N) % 3


def opened(path, **reading):
    return open_samples(path, (), ReadingOptions(**reading))


def write(path, arrays, **how):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **how)
    return path


@pytest.mark.parametrize("how", [{}, {"chunks": True, "compression": "gzip"}])
def test_an_array_is_read_with_labels_and_conditions_beside_it(tmp_path, how):
    arrays = {"train/images": PIXELS, "labels": LABELS, "lang": ["de", "en"] * 4, "mean": np.zeros((5, 6))}
    samples = opened(write(tmp_path / "x.h5", arrays, **how))
    assert np.array_equal(samples.read(0, 99).pixels.permute(0, 2, 3, 1), PIXELS)
    assert np.array_equal(samples.read_at([5, 1]).pixels.permute(0, 2, 3, 1), PIXELS[[5, 1]])
    assert samples.labels.tolist() == LABELS.tolist()
    some = opened(tmp_path / "x.h5", column="train/images", labels="lang", where=["labels!=0", "lang=en"])
    assert (some.labels.tolist(), some.classes) == ([1, 1, 1], ("de", "en"))
    assert np.array_equal(some.read(0, 9).pixels.permute(0, 2, 3, 1), PIXELS[[1, 5, 7]])
    with pytest.raises(InputError, match=r"has no array 'x' .it has labels, lang, mean, train/images."):
        opened(tmp_path / "x.h5", column="x")


def hostile(kind, folder):
    path = folder / f"{kind}.h5"
    np.save(folder / "secret.npy", PIXELS)
    write(folder / "other.h5", {"images": PIXELS})
    with h5py.File(path, "w") as file:
        if kind == "link":
            file["images"] = h5py.ExternalLink(str(folder / "other.h5"), "images")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(PIXELS.shape, np.uint8)
            layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "images", PIXELS.shape)
            file.create_virtual_dataset("images", layout)
        elif kind == "raw":
            place = [(str(folder / "secret.npy"), 128, PIXELS.size)]
            file.create_dataset("images", PIXELS.shape, np.uint8, external=place)
        elif kind == "objects":
            file.create_dataset("images", (N,), h5py.ref_dtype)
        elif kind == "floats":
            file.create_dataset("images", data=PIXELS / 255)
        elif kind == "bomb":
            file.create_dataset("images", (2**20, 64, 64, 3), np.uint8, chunks=(2**10, 64, 64, 3), compression="gzip")
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("link", "has no array 'images' .it has none."),
        ("virtual", "has the array 'images' in other files: copy it into one file"),
        ("raw", "has the array 'images' in other files"),
        ("objects", r"contains an array of dtype object and shape \(8,\), expected uint8 images"),
        ("floats", r"floats have no known range, so save \(x \* 255\)"),
        ("bomb", r"has an array 'images' that unpacks to 12,884,901,888 bytes and looks like a decompression bomb"),
    ],
)
def test_no_other_file_is_read_and_no_object_is_made(tmp_path, kind, reason):
    with pytest.raises(InputError, match=reason) as error:
        opened(hostile(kind, tmp_path), column="images").read(0, 2)
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_one_sentence(tmp_path):
    whole = write(tmp_path / "x.h5", {"images": PIXELS}, chunks=True, compression="gzip").read_bytes()
    for cut in (3, 600, len(whole) - 100):
        (tmp_path / "cut.h5").write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"cut\.h5 is not a readable HDF5 file"):
            opened(tmp_path / "cut.h5").read(0, N)


def test_without_h5py_the_way_out_is_an_extra(tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs a reader of HDF5: install it with pip install 'evalsvc\[hdf5\]'"):
        opened(tmp_path / "x.h5")
