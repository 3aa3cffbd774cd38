import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from evalsvc.core.digests import stamp_path
from evalsvc.core.errors import InputError
from evalsvc.inputs.sample_sets import open_samples
from evalsvc.plugins.samples import Images, Texts


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def in_folder(path, pictures):
    path.mkdir()
    for i, picture in enumerate(pictures):
        (path / f"{i}.png").write_bytes(png(picture))
    return path


def in_zip(path, pictures):
    with zipfile.ZipFile(path, "w") as archive:
        for i, picture in enumerate(pictures):
            archive.writestr(f"some/{i}.png", png(picture))
    return path


def test_every_container_gives_the_same_pixels(tmp_path, pictures):
    np.savez(tmp_path / "stored.npz", images=pictures)
    np.savez_compressed(tmp_path / "packed.npz", pictures)
    np.savez(tmp_path / "channels_first.npz", pictures.transpose(0, 3, 1, 2))
    np.savez(tmp_path / "fortran.npz", np.asfortranarray(pictures))
    np.save(tmp_path / "plain.npy", pictures)
    in_folder(tmp_path / "folder", pictures)
    in_zip(tmp_path / "zipped.zip", pictures)
    expected = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    for path in sorted(tmp_path.iterdir()):
        samples = open_samples(path)
        assert len(samples) == 5
        assert torch.equal(samples.read(0, 5).pixels, expected), path.name
        assert torch.equal(samples.read(2, 4).pixels, expected[2:4]), path.name


def test_a_stored_array_is_mapped_and_not_loaded(tmp_path, pictures):
    np.savez(tmp_path / "stored.npz", pictures)
    assert isinstance(open_samples(tmp_path / "stored.npz")._array, np.memmap)


def test_grey_images_keep_one_channel(tmp_path):
    in_folder(tmp_path / "grey", np.zeros((2, 4, 4), np.uint8))
    assert open_samples(tmp_path / "grey").read(0, 2).pixels.shape == (2, 1, 4, 4)


def test_a_corrupt_image_is_named(tmp_path, pictures):
    in_folder(tmp_path / "some", pictures)
    broken = tmp_path / "some" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError, match="3.png is not a readable image"):
        open_samples(tmp_path / "some").read(0, 5)


def test_an_empty_folder_and_a_folder_without_images_are_errors(tmp_path):
    with pytest.raises(InputError, match="contains no images"):
        open_samples(tmp_path)
    (tmp_path / "notes.md").write_text("no image")
    with pytest.raises(InputError, match="contains no images"):
        open_samples(tmp_path)


def test_pickled_arrays_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "objects.npz", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="objects"):
        open_samples(tmp_path / "objects.npz")


def test_an_array_that_unpacks_to_more_than_memory_holds_is_refused_unread(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "zeros.npz", np.zeros((100, 64, 64), np.uint8))
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 100}[name])
    with pytest.raises(InputError, match=r"'arr_0' has 409,728 bytes when unpacked.*np.savez"):
        open_samples(tmp_path / "zeros.npz")


@pytest.mark.parametrize("array", [np.zeros((4, 8, 8, 3), np.float32), np.zeros((4, 8), np.uint8)])
def test_arrays_that_are_no_uint8_images_are_errors(tmp_path, array):
    np.savez(tmp_path / "x.npz", array)
    with pytest.raises(InputError, match="uint8 images"):
        open_samples(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.zip", "x.npz", "x.npy"])
def test_a_damaged_archive_is_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an archive at all")
    with pytest.raises(InputError, match=name):
        open_samples(tmp_path / name)


def spoiled(file, member):
    """The file with the packed bytes of a member overwritten."""
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo(member).header_offset + 30 + len(member)
    data = bytearray(file.read_bytes())
    data[start + 10 : start + 40] = b"\xff" * 30
    file.write_bytes(data)


def test_damage_inside_an_archive_is_named(tmp_path, pictures):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i, picture in enumerate(pictures):
            archive.writestr(f"{i}.png", png(picture))
    spoiled(tmp_path / "x.zip", "1.png")
    np.savez_compressed(tmp_path / "x.npz", images=pictures)
    spoiled(tmp_path / "x.npz", "images.npy")
    with pytest.raises(InputError, match=r"1\.png is not a readable image"):
        open_samples(tmp_path / "x.zip").read(0, 5)
    with pytest.raises(InputError, match=r"x\.npz is not a readable array file"):
        open_samples(tmp_path / "x.npz")


def test_texts_are_read_from_strings_and_objects(tmp_path):
    (tmp_path / "t.jsonl").write_text('"one"\n{"text": "zwei", "id": 2}\n"三\\n"\n')
    assert open_samples(tmp_path / "t.jsonl").read(0, 3) == Texts(("one", "zwei", "三\n"))


@pytest.mark.parametrize("line", ["{", "3", '{"body": "x"}'])
def test_a_bad_line_is_named_by_its_number(tmp_path, line):
    (tmp_path / "t.jsonl").write_text(f'"fine"\n{line}\n')
    with pytest.raises(InputError, match="line 2"):
        open_samples(tmp_path / "t.jsonl")


def test_the_digest_follows_the_content(tmp_path, pictures):
    folder = in_folder(tmp_path / "folder", pictures)
    before = open_samples(folder).digest()
    (folder / "0.png").write_bytes(png(pictures[1]))
    assert open_samples(folder).digest() != before
    assert isinstance(open_samples(folder).read(0, 1), Images)


def test_a_link_that_leads_nowhere_is_named_and_not_passed_over(tmp_path, pictures):
    folder = in_folder(tmp_path / "linked", pictures)
    (folder / ".#notes.txt").symlink_to("somebody@somewhere")
    assert len(open_samples(folder)) == 5
    (folder / "2.png").unlink()
    (folder / "2.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"linked/2\.png is a dangling symbolic link"):
        open_samples(folder)


def test_linked_folders_are_read_with_the_others_and_a_link_in_a_circle_is_named(tmp_path, pictures):
    in_folder(tmp_path / "elsewhere", pictures)
    (tmp_path / "set").mkdir()
    in_folder(tmp_path / "set" / "cats", pictures[:2])
    (tmp_path / "set" / "dogs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "pets").symlink_to(tmp_path / "elsewhere")
    found = open_samples(tmp_path / "set")
    before = found.digest(), stamp_path(tmp_path / "set")
    assert len(found) == 12
    assert torch.equal(found.read(2, 7).pixels, torch.from_numpy(pictures).permute(0, 3, 1, 2))
    (tmp_path / "elsewhere" / "4.png").unlink()
    after = open_samples(tmp_path / "set").digest(), stamp_path(tmp_path / "set")
    assert all(a != b for a, b in zip(before, after, strict=True))
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set")
    with pytest.raises(InputError, match="dogs/back/? is a symbolic link to a folder that contains it"):
        open_samples(tmp_path / "set")


def test_class_labels_are_the_numbers_of_the_folders_or_their_places_and_none_without_folders(tmp_path):
    def labels(*names):
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (2, 2)).save(root / name)
        return open_samples(root).labels.tolist()

    assert labels("10/a.png", "2/a.png", "2/b.png") == [10, 2, 2]  # not by the alphabet, in which 10 precedes 2
    assert labels("dog/a.png", "cat/x/a.png") == [0, 1]
    assert labels("a.png", "cat/a.png") == labels("cat/a.png", "cat/b.png") == labels("a.png", "b.png") == [-1, -1]


def test_class_labels_beside_an_array_are_read_where_they_fit(tmp_path):
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    for name, labels, kept in (
        ("labels", [2, 0, 1], [2, 0, 1]),
        ("arr_1", [2, 0, 1], [2, 0, 1]),
        ("labels", [2, 0], [-1] * 3),
        ("labels", [0.5, 0, 1], [-1] * 3),
    ):
        np.savez(tmp_path / "x.npz", images=pixels, **{name: labels})
        assert open_samples(tmp_path / "x.npz").labels.tolist() == kept
