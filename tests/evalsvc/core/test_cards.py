"""Names of devices: which card each process sees, whatever its parent sees."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.core.cards import Card, cards_of
from evalsvc.core.errors import InputError

MIG = "MIG-GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f/7/0"


def visible(names, environment=None, there=8):
    """What each process is told to see."""
    cards = cards_of(names, environment or {}, lambda: there)
    return [card.variables.get("CUDA_VISIBLE_DEVICES") for card in cards]


@settings(max_examples=30)
@given(order=st.permutations(range(8)), shown=st.integers(1, 8), data=st.data())
def test_a_number_counts_the_cards_that_the_parent_sees(order, shown, data):
    listed = [str(number) for number in order[:shown]]
    asked = data.draw(st.lists(st.integers(0, shown - 1), min_size=1))
    names, environment = ",".join(f"cuda:{number}" for number in asked), {"CUDA_VISIBLE_DEVICES": ",".join(listed)}
    assert visible(names, environment, shown) == [listed[number] for number in asked]
    # and a child that counts again is told the same
    for entry in set(visible(names, environment, shown)):
        assert visible("cuda:0", {"CUDA_VISIBLE_DEVICES": entry}, 1) == [entry]


@settings(max_examples=17)
@given(there=st.integers(0, 16))
def test_auto_is_every_card_once_and_without_any_the_best_other_device(there):
    assert visible("auto", there=there) == ([str(number) for number in range(there)] or [None])
    assert cards_of("auto", {}, lambda: 0) == (Card(),)


def test_a_process_calls_its_card_cuda_and_the_user_calls_it_as_before():
    first, second, third = cards_of("cuda:1, cpu ,cuda:3", {}, lambda: 4)
    assert (first.name, first.device, first.variables) == ("cuda:1", "cuda", {"CUDA_VISIBLE_DEVICES": "1"})
    assert (second.name, second.device, second.variables) == ("cpu", "cpu", {})
    assert third.name == "cuda:3"


def test_cards_are_named_by_uuid_by_the_user_or_by_the_parent():
    assert visible(f"GPU-8932f937,{MIG}") == ["GPU-8932f937", MIG]
    assert visible("cuda:1", {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}) == ["GPU-b"]
    # torch counts one MIG instance in a process, and each process can have another
    assert visible("auto", {"CUDA_VISIBLE_DEVICES": f"{MIG},MIG-b"}, there=1) == [MIG, "MIG-b"]


def test_what_follows_an_entry_that_is_no_card_is_not_seen():
    assert visible("auto", {"CUDA_VISIBLE_DEVICES": "3, 1,-1,2"}, there=2) == ["3", "1"]
    assert visible("auto", {"CUDA_VISIBLE_DEVICES": "0,99,1"}, there=1) == ["0"]
    assert visible("auto", {"CUDA_VISIBLE_DEVICES": ""}, there=0) == [None]


def test_the_variable_of_amd_is_set_where_it_would_win():
    (card,) = cards_of("cuda:1", {"HIP_VISIBLE_DEVICES": "4,5", "CUDA_VISIBLE_DEVICES": "0,1"}, lambda: 2)
    assert card.variables == {"HIP_VISIBLE_DEVICES": "5", "CUDA_VISIBLE_DEVICES": "5"}


def test_a_device_given_twice_has_two_processes_that_know_it():
    cards = cards_of("cuda,cuda:1,cuda:0,cpu,cpu:0", {}, lambda: 2)
    assert [card.processes for card in cards] == [2, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("names", "there", "said"),
    [
        (" , ", 1, "--devices is empty"),
        ("cuda:2", 2, "--devices cuda:2: the last card here is cuda:1: name another"),
        ("cuda", 0, "--devices cuda: torch sees no CUDA device here"),
        ("auto,cpu", 1, "'auto' is every GPU: use it alone"),
        ("cuda:0,GPU-8932f937", 1, "cuda:0 and GPU-8932f937 may be the same card"),
    ],
)
def test_a_name_without_a_card_is_one_sentence(names, there, said):
    with pytest.raises(InputError, match=said):
        cards_of(names, {}, lambda: there)


def test_devices_are_counted_only_where_names_are_numbers():
    cards_of("cpu,mps,GPU-a,MIG-b", {"CUDA_VISIBLE_DEVICES": "0"}, pytest.fail)
