import pytest
import torch

from evalsvc.core.errors import ModelError
from evalsvc.plugins import conformance, validation
from evalsvc.plugins.deferred_checks import deferred
from evalsvc.plugins.interfaces import ExtractorInfo, GeneratorInfo
from evalsvc.plugins.samples import Audio, Images, MixedImages, SampleRequest, Texts, on_host
from tests.pretended_device import pretended

CPU = torch.device("cpu")


class Fixed:
    """Returns whatever the test says."""

    def __init__(self, answer, modality="image", shape=(1, 4, 4)):
        self.info = GeneratorInfo("fixed", modality, shape)
        self.answer = answer

    def sample(self, request):
        return self.answer(request)


def images(n, *shape, dtype=torch.uint8):
    return Images(torch.zeros(n, *shape, dtype=dtype))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda r: images(len(r) - 1, 1, 4, 4), "returned 7 samples, expected 8"),
        (lambda r: images(len(r), 3, 4, 4), r"shape \(8, 3, 4, 4\), expected \(n, 1, 4, 4\)"),
        (lambda r: images(len(r), 1, 4, 4, dtype=torch.float32), "dtype torch.float32"),
        (lambda r: torch.zeros(len(r), 1, 4, 4), "returned Tensor"),
        (lambda r: Texts(("a",) * len(r)), "returned Texts"),
        (lambda r: Images.from_signed(torch.full((len(r), 1, 4, 4), torch.nan)), "8 of 8 samples with NaN"),
    ],
)
def test_a_generator_that_breaks_its_word_is_named(answer, complaint):
    with pytest.raises(ModelError, match=complaint):
        validation.sample(Fixed(answer), SampleRequest.of(0, 0, 8))


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (torch.zeros(7, 2), r"shape \(7, 2\) for 8 samples"),
        (torch.zeros(8, 3), r"shape \(8, 3\)"),
        (torch.full((8, 2), torch.inf), "NaN or infinite"),
    ],
)
def test_an_extractor_that_breaks_its_word_is_named(array, complaint):
    class Broken:
        info = ExtractorInfo("broken", "image", {"features": 2}, "none", "")

        def extract(self, samples):
            return {"features": array}

    with pytest.raises(ModelError, match=complaint):
        validation.extract(Broken(), images(8, 1, 4, 4))


def findings(answer):
    return {finding.check.split(":")[0]: finding.ok for finding in conformance.check_generator(Fixed(answer), CPU)}


def noise_of(request):
    return Images.from_unit(request.uniform(1, 4, 4))


def test_a_generator_that_uses_only_its_seeds_passes_the_check():
    assert all(findings(noise_of).values())


@pytest.mark.parametrize(
    "follower",
    [
        lambda r: Images((r.indices[:, None, None, None] * torch.ones(1, 1, 4, 4)).to(torch.uint8)),
        lambda r: Images.from_unit((r.uniform(1, 4, 4) + 0.01 * r.indices[:, None, None, None]) % 1),
        lambda r: Images.from_unit(SampleRequest.at(0, r.indices).uniform(1, 4, 4)),
    ],
)
def test_a_generator_whose_samples_follow_their_indices_is_caught(follower):
    found = findings(follower)
    assert not found.pop("same seeds at other indices")
    assert all(found.values())


def test_stored_samples_may_follow_their_indices():
    class Stored(Fixed):
        held = 16

    stored = Stored(lambda r: Images((r.indices[:, None, None, None] * torch.ones(1, 1, 4, 4)).to(torch.uint8)))
    assert all(finding.ok for finding in conformance.check_generator(stored, CPU))


def test_global_randomness_is_caught():
    found = findings(lambda r: Images.from_unit(torch.rand(len(r), 1, 4, 4)))
    assert not found["determinism"]


def test_a_shared_stream_over_the_batch_is_caught():
    def shared(request):
        stream = torch.Generator().manual_seed(int(request.seeds[0]))
        return Images.from_unit(torch.rand(len(request), 1, 4, 4, generator=stream))

    found = findings(shared)
    assert found["determinism"]
    assert not found["batches of 1, 5 and 10 samples"]


def test_batch_statistics_are_caught():
    def normalised(request):
        x = request.normal(1, 4, 4)
        return Images.from_signed(x / x.abs().max())

    assert not findings(normalised)["batches of 1, 5 and 10 samples"]


class Sums:
    """The sum of each image, computed where it is."""

    info = ExtractorInfo("sums", "image", {"sum": 1}, "none", "")

    def extract(self, samples):
        return {"sum": samples.pixels.flatten(1).float().sum(1, keepdim=True)}


def test_images_of_several_sizes_are_extracted_in_their_order_on_a_device_too():
    sizes = [(2, 2), (3, 3), (2, 2), (1, 4)]
    images = [torch.full((1, *size), level, dtype=torch.uint8) for level, size in enumerate(sizes, 1)]
    want = validation.extract(Sums(), MixedImages(tuple(images)))["sum"].ravel().tolist()
    assert want == [4, 18, 12, 16]
    with pretended() as device:
        there = MixedImages(tuple(map(device.tensor, images)))
        assert validation.extract(Sums(), there)["sum"].ravel().tolist() == want


class Silence:
    """Sounds, some of which are NaN."""

    info = GeneratorInfo("silence", "audio", ())

    def sample(self, request):
        waves = torch.where(request.indices < 2, torch.nan, 0.0)
        return Audio(tuple(waves[:, None].expand(-1, 5)), 16_000)


def test_sounds_with_nan_are_counted_at_once_or_at_the_end_of_a_loop_on_a_device():
    message = "returned 2 sounds with NaN"
    with pytest.raises(ModelError, match=message):
        validation.sample(Silence(), SampleRequest.of(0, 0, 4))

    def loop():
        with deferred():
            drawn.extend(validation.sample(Silence(), SampleRequest.of(0, 4 * i, 4 * i + 4, "cuda")) for i in range(2))
            assert not device.synchronizations

    drawn = []
    with pretended() as device, pytest.raises(ModelError, match=message):
        loop()
    assert len(drawn) == 2


def test_the_fault_of_a_sample_comes_before_the_error_that_it_causes_at_the_end_of_a_loop():
    def loop(error):
        with deferred():
            validation.sample(Silence(), SampleRequest.of(0, 0, 4, "cuda"))
            raise error

    with pretended():
        with pytest.raises(ModelError, match="returned 2 sounds with NaN"):
            loop(ModelError("extractor 'ears' hears nothing"))
        with pytest.raises(KeyError):
            loop(KeyError())


def test_silence_of_the_host_may_stand_beside_sounds_of_a_device():
    class Partly:
        info = GeneratorInfo("partly", "audio", ())

        def sample(self, request):
            return Audio((device.tensor(torch.ones(3)), torch.zeros(2)), 16_000)

    with pretended() as device:
        found = on_host(validation.sample(Partly(), SampleRequest.of(0, 0, 2)).samples)
        assert [wave.tolist() for wave in found.waves] == [[1, 1, 1], [0, 0]]


@pytest.mark.parametrize(
    "found", [torch.zeros(1, 3), torch.zeros(2), torch.tensor([[0.0], [torch.nan]])], ids=["count", "shape", "NaN"]
)
def test_malformed_embeddings_of_texts_are_refused_by_name(found):
    class Space:
        def embed_texts(self, texts):
            return found

    with pytest.raises(ModelError, match=r"Space\.embed_texts returned shape .*, or NaN, for 2 texts"):
        validation.embed_texts(Space(), ["a", "b"])
