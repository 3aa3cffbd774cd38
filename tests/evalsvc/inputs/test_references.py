import os
import threading
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from sqlalchemy import update

from evalsvc.builtin.extractors.pixels import Pixels
from evalsvc.core.batching import Batches
from evalsvc.core.errors import InputError
from evalsvc.inputs.reference_arrays import extract_reference, read_reference
from evalsvc.inputs.references import add_reference, open_reference
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import Plugins
from evalsvc.store.tables import Reference as Row

PLUGINS = Plugins()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "real"
    path.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)):
        Image.fromarray(pixels).save(path / f"{i}.png")
    return path


def test_a_reference_is_found_by_its_name(database, folder):
    add_reference(database, PLUGINS, "mine", folder, heldout=folder)
    reference = open_reference(database, PLUGINS, "mine")
    assert len(reference.split("train")) == len(reference.split("heldout")) == 6
    assert reference.digests["train"] == reference.digests["heldout"]


def test_changed_files_are_an_error_that_names_them(database, folder):
    add_reference(database, PLUGINS, "mine", folder, None)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "0.png")
    with pytest.raises(InputError, match=f"'mine' has changed: {folder}"):
        open_reference(database, PLUGINS, "mine")


def test_touched_but_equal_files_are_fine(database, folder):
    add_reference(database, PLUGINS, "mine", folder, None)
    os.utime(folder / "0.png", (1, 1))
    assert len(open_reference(database, PLUGINS, "mine").split("train")) == 6


def test_the_same_content_may_be_added_again_and_other_content_not(database, folder):
    for _ in range(2):
        add_reference(database, PLUGINS, "mine", folder, None)
    (folder / "5.png").unlink()
    with pytest.raises(InputError, match="exists with other content"):
        add_reference(database, PLUGINS, "mine", folder, None)


def test_the_name_of_a_plugin_is_taken(database, folder):
    with pytest.raises(InputError, match="is a plug-in"):
        add_reference(database, PLUGINS, "digits", folder, None)


@pytest.mark.parametrize("name", ["CelebA HQ", "ffhq/256", "Ångström", "", "-x", "a\nb", "=1+2", "x" * 65, ".."])
def test_a_reference_has_a_name_that_a_suite_can_have(database, folder, name):
    with pytest.raises(InputError, match="invalid reference name .*: use up to 64 letters"):
        add_reference(database, PLUGINS, name, folder, None)


def test_references_that_differ_by_case_only_are_told_apart(database, folder):
    add_reference(database, PLUGINS, "CIFAR10", folder, None)
    add_reference(database, PLUGINS, "CIFAR10", folder, None)
    with pytest.raises(InputError, match="'cifar10' and 'CIFAR10' would differ by case only"):
        add_reference(database, PLUGINS, "cifar10", folder, None)
    with pytest.raises(InputError, match=r"is a plug-in \(digits\)"):
        add_reference(database, PLUGINS, "Digits", folder, None)
    with pytest.raises(InputError, match="there is no reference 'cifar10'; the nearest are CIFAR10"):
        open_reference(database, PLUGINS, "cifar10")


def test_a_reference_that_was_added_under_any_name_stays(database, folder):
    row = add_reference(database, PLUGINS, "mine", folder, None)
    with database.write() as session:
        session.execute(update(Row).where(Row.name == row.name).values(name="CelebA HQ"))
    add_reference(database, PLUGINS, "CelebA HQ", folder, None)
    assert len(open_reference(database, PLUGINS, "CelebA HQ").split("train")) == row.count


def test_a_missing_heldout_half_says_how_to_add_one(database, folder):
    add_reference(database, PLUGINS, "mine", folder, None)
    with pytest.raises(InputError, match="--heldout PATH"):
        open_reference(database, PLUGINS, "mine").split("heldout")


def test_a_bad_file_shows_when_the_reference_is_added(database, folder):
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="3.png"):
        add_reference(database, PLUGINS, "mine", folder, None)


class CountingPixels(Pixels):
    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.seen = 0

    def extract(self, samples):
        self.seen += len(samples)
        return super().extract(samples)


def extract(context, samples, extractor):
    extract_reference(context.artifacts, samples, "d", [extractor], Batches(4), lambda _: None)


def test_samples_that_are_written_over_while_they_are_read_leave_no_arrays(context, folder):
    add_reference(context.database, PLUGINS, "mine", folder, None)
    reference = open_reference(context.database, PLUGINS, "mine")
    samples, extractor = reference.split("train"), CountingPixels()
    first, other = sorted(folder.glob("*.png"))[:2]
    content = first.read_bytes()

    def extract_while(happens):
        unchanged = partial(reference.require_unchanged, "train")
        extract_reference(context.artifacts, samples, "d", [extractor], Batches(2), lambda _: happens(), unchanged)

    with pytest.raises(InputError, match="reference 'mine' has changed"):
        extract_while(lambda: first.write_bytes(other.read_bytes()))
    assert not list(context.artifacts.root.rglob("*.npy"))
    first.write_bytes(content)
    extract_while(first.touch)
    assert list(context.artifacts.root.rglob("*.npy")), "the same content at another time is no change"


def test_arrays_are_extracted_once_whatever_the_number_of_askers(context):
    samples = open_reference(context.database, PLUGINS, "digits").split("train")
    counting = CountingPixels()
    threads = [threading.Thread(target=extract, args=(context, samples, counting)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counting.seen == len(samples)
    array = read_reference(context.artifacts, "d", counting.info, "pixels")
    assert np.array_equal(array, samples.read(0, len(samples)).pixels.flatten(1).numpy().astype(np.float32) / 255)


def test_a_failed_extraction_leaves_no_array_and_can_be_repeated(context):
    samples = open_reference(context.database, PLUGINS, "digits").split("train")

    class Failing(CountingPixels):
        def extract(self, batch):
            if self.seen > 100:
                raise KeyboardInterrupt
            return super().extract(batch)

    with pytest.raises(KeyboardInterrupt):
        extract(context, samples, Failing())
    assert not list(context.artifacts.root.rglob("*.npy"))
    extract(context, samples, CountingPixels())
    assert read_reference(context.artifacts, "d", CountingPixels.info, "pixels").shape == (len(samples), 64)


def test_one_plugin_with_two_settings_gives_two_arrays_and_twice_the_same_gives_one(context):
    samples = open_reference(context.database, PLUGINS, "digits").split("train")

    class Halved(Pixels):
        info = ExtractorInfo("pixels", "image", {"pixels": 0}, "none", "flattened / 510, float32")

        def extract(self, batch):
            return {"pixels": super().extract(batch)["pixels"] / 2}

    plain, halved = Pixels(torch.device("cpu")), Halved(torch.device("cpu"))
    extract_reference(context.artifacts, samples, "d", [plain, halved, plain], Batches(300), lambda _: None)
    arrays = [read_reference(context.artifacts, "d", extractor.info, "pixels") for extractor in (plain, halved)]
    assert np.allclose(arrays[0], 2 * arrays[1])


def test_what_is_left_without_bad_files_is_checked_like_any_set(database, tmp_path, capfd):
    sounds, images = tmp_path / "sounds", tmp_path / "images"
    for place in (sounds, images):
        place.mkdir()
    wavfile.write(sounds / "one.wav", 8000, np.ones(800, np.int16))
    wavfile.write(sounds / "other.wav", 16000, np.ones(800, np.int16))
    (sounds / "bad.wav").write_bytes(b"RIFF")
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(images / f"{name}.png")
    (images / "b.png").write_bytes((images / "b.png").read_bytes()[:40])
    for path, reason in ((sounds, "mixes sample rates"), (images, "a single image")):
        with pytest.raises(InputError, match=reason):
            add_reference(database, PLUGINS, path.name, path, None, skip_bad=True)
    assert capfd.readouterr() == ("", ""), "libraries do not write about a damaged file"
