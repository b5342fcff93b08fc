"""An application's judge is asked before the rules; homes of any owner are clean folders of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carboy.config import SpaceSettings
from carboy.engine.access import actions, authorise
from carboy.engine.names import clean_path, home_of
from carboy.errors import CarboyError, Forbidden, NotFound, Unauthenticated
from carboy.model import NOBODY, Action, File, Judge, Principal

USER = Principal("ann", "user")
OPEN, READABLE, PRIVATE = SpaceSettings(), SpaceSettings(public="read"), SpaceSettings(private=True)


def judged(principal: Principal, judge: Judge) -> Principal:
    return replace(principal, judge=judge)


def outcome(principal: Principal, action: Action, rules: SpaceSettings | None, **how: object) -> type[CarboyError] | None:
    try:
        authorise(principal, action, "s", rules, **how)  # type: ignore[arg-type]
    except CarboyError as error:
        return type(error)
    return None


def test_users_have_all_of_their_own_tree_and_what_anybody_has() -> None:
    assert actions(USER, "s", PRIVATE) == {"read", "write", "delete"}
    assert actions(USER, "s", READABLE) == {"read"}
    assert actions(USER, "s", OPEN) == frozenset()
    assert actions(replace(USER, kind="token"), "s", PRIVATE) == frozenset()
    assert outcome(USER, "read", PRIVATE, owner="bob", owned=True) is NotFound
    assert outcome(USER, "read", PRIVATE, owner="ann", owned=True) is None


@pytest.mark.parametrize("principal", [NOBODY, USER])
def test_yes_and_no_are_final(principal: Principal) -> None:
    def yes(action: Action, space: str, file: File | None) -> bool:
        return action == "write"

    def no(action: Action, space: str, file: File | None) -> bool:
        return False

    assert outcome(judged(principal, yes), "write", OPEN) is None
    assert outcome(judged(principal, yes), "write", OPEN, owner="bob", owned=True) is None
    assert actions(judged(principal, no), "s", READABLE) == frozenset()
    assert outcome(judged(principal, no), "read", READABLE) is (Unauthenticated if principal is NOBODY else NotFound)
    assert outcome(judged(USER, yes), "read", OPEN) is Forbidden


def test_none_leaves_it_to_the_rules() -> None:
    assert actions(judged(USER, lambda *_: None), "s", PRIVATE) == actions(USER, "s", PRIVATE)
    assert outcome(judged(USER, lambda *_: None), "write", READABLE) is Forbidden


def test_it_is_not_asked_about_spaces_that_are_not_there() -> None:
    def never(action: Action, space: str, file: File | None) -> bool:
        raise AssertionError(space)

    assert outcome(judged(USER, never), "read", None) is NotFound
    assert outcome(judged(NOBODY, never), "read", None) is Unauthenticated


@given(st.lists(st.text() | st.sampled_from(["nobody", ".", "..", "a/b", "=", "%2e", "A", "a"]), unique=True, max_size=5))
def test_every_owner_has_a_folder_of_its_own(owners: list[str]) -> None:
    homes = [home_of(owner) for owner in [None, *owners]]
    assert len(set(homes)) == len(homes)
    for home in homes:
        assert clean_path(f"{home}a.txt") == f"{home}a.txt"
        assert home.count("/") == 1


def test_homes_can_be_read() -> None:
    shown = {None: "nobody/", "nobody": "=6Eobody/", "42": "42/", "ann@example.org": "ann@example.org/", "..": "=2E./", "a/b": "a=2Fb/", "": "=/"}
    assert {owner: home_of(owner) for owner in shown} == shown
    assert len(home_of("é" * 1000)) <= 256
