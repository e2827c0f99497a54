"""Job UUIDs: made from the id and the site's key, and read back."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.model.identity import LARGEST_ID, JobIdentity

KEY = bytes(range(16))
IDENTITY = JobIdentity(KEY)
ids = st.integers(min_value=0, max_value=LARGEST_ID)
keys = st.binary(min_size=16, max_size=32)


@given(job=ids, key=keys)
def test_the_first_eight_digits_lead_back(job: int, key: bytes) -> None:
    identity = JobIdentity(key)
    digits = identity.short(job)
    assert len(digits) == 8
    assert identity.number(digits) == job
    assert identity.number(str(identity.uuid(job))) == job


@given(job=ids, key=keys)
def test_the_uuid_is_well_formed_and_starts_with_the_eight_digits(job: int, key: bytes) -> None:
    identity = JobIdentity(key)
    uuid = identity.uuid(job)
    assert uuid.version == 8
    assert uuid.variant == RFC_4122
    assert str(uuid).startswith(identity.short(job))


@given(job=ids)
def test_a_whole_uuid_is_parsed_with_and_without_dashes(job: int) -> None:
    uuid = IDENTITY.uuid(job)
    assert IDENTITY.parse(str(uuid)) == job
    assert IDENTITY.parse(uuid.hex) == job
    assert IDENTITY.parse(str(uuid).upper()) == job


def test_ids_are_permuted_without_collision() -> None:
    count = 100_000
    assert len({IDENTITY.short(job) for job in range(count)}) == count


def test_the_uuid_of_an_id_never_changes() -> None:
    """Job directories are named by it: another formula would lose them."""
    assert IDENTITY.uuid(1) == UUID("56e0851f-191b-832c-8c6e-b296287391f3")
    assert IDENTITY.uuid(1_000_000) == UUID("6ef14472-d5bb-861c-a7c4-1bb19c84e7a5")


def test_uuids_of_another_site_are_not_taken() -> None:
    other = JobIdentity(bytes(16))
    assert other.uuid(1) != IDENTITY.uuid(1)
    assert other.parse(str(IDENTITY.uuid(1))) is None


@pytest.mark.parametrize("text", ["", "1", "deadbeef", "g" * 32, "0" * 32, "-" * 32, "0" * 33])
def test_what_is_no_uuid_of_the_site_is_none(text: str) -> None:
    assert IDENTITY.parse(text) is None


@pytest.mark.parametrize("job", [-1, LARGEST_ID + 1])
def test_ids_without_eight_digits_are_refused(job: int) -> None:
    with pytest.raises(ValueError, match=str(job)):
        IDENTITY.short(job)


@given(job=st.integers(1, 5000), length=st.integers(1, 8), largest=st.integers(1, 5000))
def test_a_prefix_finds_the_ids_that_have_it(job: int, length: int, largest: int) -> None:
    prefix = IDENTITY.short(job)[:length]
    expected = [n for n in range(1, largest + 1) if IDENTITY.short(n).startswith(prefix)]
    assert IDENTITY.having_prefix(prefix, largest) == expected


@pytest.mark.parametrize("length", [4, 5, 6])
def test_both_ways_to_search_a_prefix_agree(length: int) -> None:
    prefix = IDENTITY.short(77)[:length]
    # 16 ** (8 - length) candidates against `largest` ids: each length takes another way.
    for largest in (77, 70_000):
        found = IDENTITY.having_prefix(prefix, largest)
        assert found is not None
        assert 77 in found
        assert all(IDENTITY.short(n).startswith(prefix) and n <= largest for n in found)


def test_a_search_that_takes_too_long_is_given_up() -> None:
    assert IDENTITY.having_prefix("a", 2**31, limit=1000) is None
    assert IDENTITY.having_prefix("abcdef01", 2**31, limit=1000) is not None
