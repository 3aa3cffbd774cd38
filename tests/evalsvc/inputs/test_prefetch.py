"""Images decoded ahead, by real processes."""

import gc
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsvc.core.digests import digest_path, stamp_path
from evalsvc.core.errors import InputError
from evalsvc.inputs import prefetch
from evalsvc.inputs.images.decoding import FolderSource, ZipSource, decode_from
from evalsvc.inputs.images.files import ImageDecoder, ImageFiles
from evalsvc.inputs.prefetch import Prefetcher
from evalsvc.plugins.samples import Images, MixedImages


def fill(folder, count, *, sizes=((8, 8),), colour=True):
    random = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        height, width = sizes[i % len(sizes)]
        shape = (height, width, 3) if colour else (height, width)
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i:04}.png")
    return folder


def descriptors():
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


def here(source, names):
    return [decode_from(source, name) for name in names]


def same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a == b if isinstance(b, str) else np.array_equal(a, b)


@pytest.fixture
def crew(monkeypatch):
    """Two processes whatever the machine; a list of all that were started."""
    started = []
    start = prefetch.DecodingProcess.__init__

    def record(self, *arguments):
        start(self, *arguments)
        started.append(self)

    monkeypatch.setattr(prefetch, "_cores", lambda: 2)
    monkeypatch.setattr(prefetch.DecodingProcess, "__init__", record)
    return started


def test_processes_give_the_same_images_in_the_same_order_whatever_is_asked_at_once(tmp_path, crew):
    folder = fill(tmp_path / "many", 90, sizes=((8, 8), (5, 40), (30, 3)))
    (folder / "0033.png").write_text("no image")
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"inside/{file.name}")
    for source in (FolderSource(folder), ZipSource(tmp_path / "many.zip")):
        names = source.names()
        feed, found = Prefetcher(ImageDecoder(source), names, worth=0), []
        for size in (1, 7, 30, 2, 50):
            found += feed.read(len(found), len(found) + size)
        same(found, here(source, names))
        assert "0033.png is not a readable image" in found[33]
    assert len(crew) == 4


def test_reading_out_of_order_is_right_and_starts_no_process(tmp_path, crew):
    source = FolderSource(fill(tmp_path / "some", 20))
    names = source.names()
    feed = Prefetcher(ImageDecoder(source), names, worth=0)
    for start, stop in ((5, 9), (0, 2), (18, 20), (3, 4)):
        same(feed.read(start, stop), here(source, names[start:stop]))
    assert not crew
    same(feed.read(4, 9), here(source, names[4:9]))
    assert crew


def test_too_few_descriptors_for_the_processes_is_one_sentence_and_leaks_none(tmp_path, crew):
    source = FolderSource(fill(tmp_path / "some", 30))
    names = source.names()
    feed = Prefetcher(ImageDecoder(source), names, worth=0)
    feed.read(0, 5)
    gc.collect()  # what other tests left open
    before = descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = sorted(set(range(200)) - before)
    for spare in (0, 1, 3, 6, 10, 13):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], limits[1]))
        try:
            with pytest.raises(InputError, match=r"cannot start .*\(Too many open files\).*ulimit -n"):
                feed.read(5, 10)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        crew.clear()
        gc.collect()
        assert descriptors() <= before
    same(feed.read(5, 30), here(source, names[5:]))


def test_what_waits_is_bounded_by_bytes_and_what_does_not_fit_is_decoded_on_demand(tmp_path, crew):
    budget = 4 * 1000  # two processes, two slots each: 1,000 bytes a slot
    source = FolderSource(fill(tmp_path / "big", 40, sizes=((8, 8), (40, 40), (8, 8), (17, 19))))
    names = source.names()
    feed, found = Prefetcher(ImageDecoder(source, budget), names, worth=0), []
    for _ in range(8):
        found += feed.read(len(found), len(found) + 5)
    same(found, here(source, names))
    assert [len(slot) for worker in crew for slot in worker._slots] == [1000] * 4


def test_a_short_set_is_decoded_without_processes(tmp_path, crew):
    samples = ImageFiles(fill(tmp_path / "few", 30))
    for start in range(0, 30, 10):
        samples.read(start, start + 10)
    assert not crew


def test_the_processes_end_with_the_set_that_they_decoded_even_if_it_is_kept(tmp_path, crew):
    source = FolderSource(fill(tmp_path / "some", 40))
    feed = Prefetcher(ImageDecoder(source), source.names(), worth=0)
    for start in range(0, 40, 10):
        feed.read(start, start + 10)
    processes = [worker._process for worker in crew]
    crew.clear()
    assert len(processes) == 2
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


def test_a_process_that_dies_is_named_and_the_next_reading_goes_on(tmp_path, crew):
    source = FolderSource(fill(tmp_path / "some", 60))
    names = source.names()
    feed = Prefetcher(ImageDecoder(source), names, worth=0)
    feed.read(0, 5)
    feed.read(5, 10)
    for worker in crew:
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
    with pytest.raises(InputError, match=r"the process that decoded 00\d\d.png to 00\d\d.png died \(signal 9\)"):
        feed.read(10, 60)
    same(feed.read(10, 60), here(source, names[10:60]))


def test_the_processes_end_with_the_reader_even_if_it_is_killed(tmp_path):
    folder = fill(tmp_path / "some", 40)
    code = f"""
import time
from pathlib import Path
from evalsvc.inputs.prefetch import Prefetcher
from evalsvc.inputs.images.files import ImageDecoder
from evalsvc.inputs.images.decoding import FolderSource
source = FolderSource(Path({str(folder)!r}))
feed = Prefetcher(ImageDecoder(source), source.names(), worth=0)
feed.read(0, 2)
feed.read(2, 4)
print(*(worker._process.pid for worker in feed._crew._workers), flush=True)
time.sleep(60)
"""
    reader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    children = [int(pid) for pid in reader.stdout.readline().split()]
    assert children
    reader.kill()
    reader.communicate()
    for child in children:
        while _lives(child):
            time.sleep(0.02)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- folders ---


def test_images_of_one_size_come_stacked_and_others_one_by_one(tmp_path):
    folder = fill(tmp_path / "mixed", 6, sizes=((8, 8), (8, 8), (5, 9)))
    samples = ImageFiles(folder)
    pair, three = samples.read(0, 2), samples.read(0, 3)
    assert isinstance(pair, Images)
    assert pair.pixels.shape == (2, 3, 8, 8)
    assert isinstance(three, MixedImages)
    assert [tuple(item.shape) for item in three.items] == [(3, 8, 8), (3, 8, 8), (3, 5, 9)]


@pytest.mark.parametrize("gray", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_a_grey_image_among_coloured_ones_is_rgb_wherever_it_stands(tmp_path, gray):
    folder = fill(tmp_path / "mostly", 3)
    for i in gray:
        Image.fromarray(np.full((8, 8), 7, np.uint8)).save(folder / f"000{i}.png")
    for start in (0, *gray):
        pixels = ImageFiles(folder).read(start, 3).pixels
        assert pixels.shape == (3 - start, 3, 8, 8)
        assert all(set(pixels[i - start].flatten().tolist()) == {7} for i in gray if i >= start)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
@pytest.mark.parametrize("name", ["b.png", "b.tif"])
def test_the_header_tells_of_colour_what_decoding_gives(tmp_path, mode, name):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    if mode == "CMYK" and name.endswith("png"):
        return
    Image.fromarray(picture).convert(mode).save(tmp_path / name)
    for gray in ("1", "L", "LA"):
        Image.fromarray(picture).convert(gray).save(tmp_path / "a.png")
        (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
        assert ImageFiles(tmp_path).read(0, 3).pixels.shape == (3, 3, 8, 8)
        assert ImageFiles(tmp_path, skip=[name]).read(0, 2).pixels.shape == (2, 1, 8, 8)


def test_a_single_image_is_no_set(tmp_path):
    with pytest.raises(InputError, match=r"one contains a single image, 0000.png: use a set of two"):
        ImageFiles(fill(tmp_path / "one", 1))


def test_skipped_files_are_left_out_by_name(tmp_path):
    folder = fill(tmp_path / "some", 6)
    (folder / "0002.png").write_bytes((folder / "0002.png").read_bytes()[:60])
    whole = ImageFiles(folder)
    with pytest.raises(InputError, match=r"0002.png is not a readable image .*--skip-bad"):
        whole.read(0, 6)
    assert whole.unreadable() == ("0002.png",)
    samples = ImageFiles(folder, skip=["0002.png"])
    assert len(samples.read(0, 5)) == len(samples) == 5
    assert samples.digest() != whole.digest()
    with pytest.raises(InputError, match=r"contains no image '9.png'"):
        ImageFiles(folder, skip=["9.png"])


def test_a_large_folder_is_listed_into_memory_once(tmp_path):
    """What opening, digesting and stamping hold at their peak, beside one list of the names."""
    names = [f"{i:0250}.png" for i in range(1500)]
    for name in names:
        (tmp_path / name).touch()
    one_list = sys.getsizeof(names) + sum(map(sys.getsizeof, names))
    tracemalloc.start()
    try:
        samples = ImageFiles(tmp_path)
        stamp_path(tmp_path)
        samples.digest()
        _, alone = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        del samples
        digest_path(tmp_path)
        _, digest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    buffer_of_the_hash = 2**18
    assert max(alone, digest) < 1.3 * one_list + buffer_of_the_hash
