"""Numbers and lengths of parts: whoever writes which part in which order, numbers grow with the offset and are never used twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carboy.storage.s3_parts import FEW, MAX_NUMBER, MAX_PART, MIN_PART, Plan, plan, plan_of

LARGEST = 50 * 10**12
SIZES = st.one_of(st.none(), st.integers(0, LARGEST), st.integers(0, 10**9))
PARTS = st.sampled_from([MIN_PART, 8 * 2**20, 16 * 2**20, 100 * 10**6, 2**30])


@given(SIZES, PARTS, st.lists(st.tuples(st.integers(0, LARGEST), st.integers(0, 2**128)), min_size=2, max_size=6))
def test_parts_that_are_allowed_have_growing_numbers_whoever_picks(size: int | None, part: int, starts: list[tuple[int, int]]) -> None:
    made = plan(size, part)
    places = sorted((start % size if size else start, pick) for start, pick in starts if size != 0)
    at, numbers = 0, []
    for start, pick in places:
        start = max(start, at)
        end = made.end(start)
        if size is not None and start >= size:
            break
        assert made.allows(start, end)
        assert MIN_PART <= end - start <= MAX_PART
        numbers.append(made.number(start, pick))
        at = end
    assert numbers == sorted(set(numbers))
    assert all(1 <= number <= MAX_NUMBER for number in numbers)


@given(SIZES, PARTS, st.integers(0, LARGEST), st.integers(MIN_PART, MAX_PART), st.integers(0, 100), st.integers(0, 100))
def test_what_is_allowed_has_another_number_than_what_follows(size: int | None, part: int, start: int, length: int, one: int, other: int) -> None:
    made = plan(size, part)
    if made.allows(start, start + length):
        assert made.number(start, one) < made.number(start + length, other)


@given(SIZES, PARTS, st.integers(0, LARGEST))
def test_a_slot_begins_where_parts_end_alike_whoever_writes(size: int | None, part: int, start: int) -> None:
    """Who resumes in the middle of a part soon writes the same parts as the first one would have."""
    made = plan(size, part)
    ends = {made.end(start)}
    for _ in range(3):
        ends.add(made.end(max(ends)))
    assert len({made.end(end) for end in sorted(ends)[-2:]}) == 2


@given(SIZES, PARTS)
def test_a_plan_is_known_again(size: int | None, part: int) -> None:
    made = plan(size, part)
    assert plan_of(made.state(), part) == made


@pytest.mark.parametrize("size", [None, LARGEST])
@pytest.mark.parametrize("part", [MIN_PART, 8 * 2**20])
def test_fifty_terabytes_fit_from_end_to_end(size: int | None, part: int) -> None:
    made, at, count, last = plan(size, part), 0, 0, 0
    while at < LARGEST:
        number = made.number(at, count)
        assert last < number <= MAX_NUMBER
        at, count, last = made.end(at), count + 1, number
    assert count <= MAX_NUMBER


@pytest.mark.parametrize(("size", "unit", "choices"), [
    (0, MIN_PART, 64), (100 * 2**20, MIN_PART, 16), (2**30, MIN_PART, 4), (10 * 2**30, MIN_PART, 4), (10**11, 40_000_000, 4), (10**12, 200_000_000, 2),
    (50 * 10**12, 5 * 10**9, 1)])
def test_places_are_short_and_have_many_numbers_while_there_are_enough(size: int, unit: int, choices: int) -> None:
    assert plan(size, 8 * 2**20) == Plan(unit, choices, 8 * 2**20)


def test_parts_of_five_mebibytes_as_clients_send_them_are_parts() -> None:
    made = plan(2**30 // 2, 8 * 2**20)
    assert all(made.allows(start, start + MIN_PART) for start in range(0, 2**29, MIN_PART))


@given(st.integers(0, 2500 * 10**6), PARTS, st.integers(0, 100), st.integers(0, 100))
def test_few_parts_have_low_numbers_for_servers_that_take_no_others(size: int, part: int, start: int, pick: int) -> None:
    at = size * start // 100
    assert plan(size, part, lambda: 0).number(at, pick) <= FEW + 1


@given(st.integers(0, 10**12), PARTS, st.booleans())
def test_servers_that_take_few_parts_get_longer_ones(size: int, part: int, alone: bool) -> None:
    made = plan(size, part, lambda: FEW, alone=alone)
    assert made.number(max(0, size - 1), 2**64) <= FEW
