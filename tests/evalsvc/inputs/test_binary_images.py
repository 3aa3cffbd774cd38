"""Images in arrays with columns beside them, and in the binary files of CIFAR and MNIST."""

import gzip
import struct

import numpy as np
import pytest

from evalsvc.core.errors import InputError
from evalsvc.inputs.reading_options import ReadingOptions
from evalsvc.inputs.sample_sets import open_samples

RNG = np.random.default_rng(0)
N = 6
COLORED = RNG.integers(0, 256, (N, 3, 32, 32), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (N, 5, 4), dtype=np.uint8)
LABELS = np.array([3, 1, 0, 3, 2, 1], np.uint8)


def opened(path, **reading):
    return open_samples(path, (), ReadingOptions(**reading))


def cifar(path, rows, fine=()):
    """A file as the binary version has it: labels, then the planes of red, green and blue."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(bytes([LABELS[i], *fine]) + COLORED[i].tobytes() for i in rows))


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_batches_of_cifar_are_one_split_with_names_of_classes(tmp_path):
    for name, rows in (("data_batch_1", [0, 1]), ("data_batch_2", [2, 3]), ("test_batch", [4, 5])):
        cifar(tmp_path / "c" / f"{name}.bin", rows)
    (tmp_path / "c" / "batches.meta.txt").write_text("airplane\nautomobile\nbird\ncat\n\n")
    (tmp_path / "c" / "readme.html").write_text("about")
    samples = opened(tmp_path / "c", split="train")
    assert np.array_equal(samples.read(0, 9).pixels, COLORED[:4])
    assert samples.labels.tolist() == [3, 1, 0, 3]
    assert samples.classes[3] == "cat"
    assert np.array_equal(opened(tmp_path / "c", split="train", where=["label=cat"]).read_at([1]).pixels, COLORED[3:4])
    assert np.array_equal(opened(tmp_path / "c" / "test_batch.bin").read(0, 2).pixels, COLORED[4:])
    with pytest.raises(InputError, match=r"contains several splits \(test, train\)"):
        opened(tmp_path / "c")
    before = samples.digest()
    cifar(tmp_path / "c" / "test_batch.bin", [5])
    assert samples.digest() == before


def test_cifar_100_has_two_labels(tmp_path):
    cifar(tmp_path / "c" / "train.bin", range(N), fine=[77])
    assert opened(tmp_path / "c").labels.tolist() == [77] * N
    assert opened(tmp_path / "c", labels="coarse_label").labels.tolist() == LABELS.tolist()
    assert len(opened(tmp_path / "c", where=["coarse_label=1", "label!=3"])) == 2


@pytest.mark.parametrize("end", ["", ".gz"])
def test_mnist_is_read_with_the_labels_beside_it(tmp_path, end):
    pack = gzip.compress if end else bytes
    for name, array in (("train-images-idx3", GRAY), ("train-labels-idx1", LABELS), ("t10k-images-idx3", GRAY[:2])):
        (tmp_path / f"{name}-ubyte{end}").write_bytes(pack(idx(array)))
    samples = opened(tmp_path, split="train")
    assert np.array_equal(samples.read(0, N).pixels, GRAY[:, None])
    assert samples.labels.tolist() == LABELS.tolist()
    assert len(opened(tmp_path / f"train-images-idx3-ubyte{end}", where=["label=3"])) == 2
    assert opened(tmp_path, split="test").labels.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data_batch_1.bin", bytes(3000), "is truncated or not of CIFAR"),
        ("data_batch_1.bin", b"\x63" + bytes(3072), "is not of CIFAR: it has the label 99 of 10 classes"),
        ("data_batch_1", b"\x80\x02}q", "data_batch_1 is a pickle, which may run code: use the binary version"),
        ("x-images-idx3-ubyte", idx(GRAY)[:-1], "is truncated: its header declares 6 x 5 x 4 bytes"),
        ("x-images-idx3-ubyte", struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "is truncated: its header declares"),
        ("x-images-idx3-ubyte", idx(LABELS), "is not an idx file of bytes with 3 axes"),
        ("x-images-idx3-ubyte", b"", "is not a readable idx file"),
        ("x-images-idx3-ubyte.gz", gzip.compress(idx(GRAY), mtime=0)[:-9], "is not a readable idx file"),
    ],
)
def test_what_is_damaged_or_a_pickle_is_one_sentence(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match=reason):
            opened(path)


def test_arrays_of_an_archive_are_columns(tmp_path):
    names = np.array(["de", "en", "de"])
    np.savez(tmp_path / "x.npz", pictures=GRAY[:3], other=GRAY[3:], year=[1, 2, 2], lang=names)
    samples = opened(tmp_path / "x.npz", column="other", labels="lang", where=["year=2", "lang!=de"])
    assert (samples.labels.tolist(), samples.classes) == ([1], ("de", "en"))
    assert np.array_equal(samples.read(0, 9).pixels[:, 0], GRAY[4:5])
    with pytest.raises(InputError, match=r"has no array 'x' .it has pictures, other, year, lang."):
        opened(tmp_path / "x.npz", column="x")
    with pytest.raises(InputError, match=r"has no column 'size' beside its samples .it has year, lang."):
        opened(tmp_path / "x.npz", labels="size")
    np.save(tmp_path / "x.npy", GRAY)
    with pytest.raises(InputError, match="option labels does not apply to"):
        opened(tmp_path / "x.npy", labels="year")
    np.save(tmp_path / "x.npy", COLORED.astype(np.float32))
    with pytest.raises(InputError, match=r"floats have no known range, so save \(x \* 255\)"):
        opened(tmp_path / "x.npy")
