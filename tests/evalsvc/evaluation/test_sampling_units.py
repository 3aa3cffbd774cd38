"""Which samples are independent, and which evaluations drew the same units."""

from dataclasses import dataclass, field

import numpy as np

from evalsvc.evaluation.sampling_units import SamplingUnits
from evalsvc.inputs.decoding_options import Decoding


@dataclass
class Suite:
    samples: int = 12


@dataclass
class Spec:
    """What units depend on, of an evaluation's spec."""

    seed: int = 0
    generator: str = "gan"
    checkpoint: str = "c" * 64
    options: dict = field(default_factory=dict)
    decoding: Decoding | None = None
    suite: Suite = field(default_factory=Suite)

    def indices(self, start, stop):
        return np.arange(start, stop)


PROMPTS = tuple(f"prompt {i}" for i in range(12))


def test_noise_is_shared_by_evaluations_with_one_seed_whatever_the_checkpoint():
    assert SamplingUnits.of(Spec(), ()).name == SamplingUnits.of(Spec(checkpoint="d" * 64), ()).name
    assert SamplingUnits.of(Spec(), ()).name != SamplingUnits.of(Spec(seed=1), ()).name
    assert SamplingUnits.of(Spec(), ()).groups is None


def test_stored_samples_are_shared_with_themselves_alone():
    stored = Spec(generator="samples")
    assert SamplingUnits.of(stored, ()) == SamplingUnits.of(Spec(generator="samples", seed=1), ())
    assert SamplingUnits.of(stored, ()) != SamplingUnits.of(Spec(generator="samples", checkpoint="d" * 64), ())


def test_prompts_are_shared_whatever_the_seed_and_the_generator():
    units = SamplingUnits.of(Spec(), PROMPTS)
    assert units == SamplingUnits.of(Spec(seed=1, generator="samples"), PROMPTS)
    assert units != SamplingUnits.of(Spec(), PROMPTS[::-1])
    assert units.groups is None


def test_equal_prompts_are_one_unit_wherever_they_stand_in_the_file():
    units, turned = (SamplingUnits.of(Spec(), prompts) for prompts in (PROMPTS[:6] * 2, PROMPTS[5::-1] * 2))
    assert len(np.unique(units.groups)) == 6
    assert units.name == turned.name  # the same prompts, as often


def test_prompts_that_a_decoding_repeats_are_groups():
    units = SamplingUnits.of(Spec(decoding=Decoding(prompts=("a", "b", "c"))), ())
    assert np.array_equal(units.groups[:3], units.groups[3:6])
    assert len(np.unique(units.groups)) == 3


def test_a_single_prompt_is_a_condition_and_leaves_samples_independent():
    for prompts in ((), PROMPTS[:1] * 12):
        units = SamplingUnits.of(Spec(decoding=Decoding()), prompts)
        assert units.groups is None
        assert units.name.startswith("noise/")
