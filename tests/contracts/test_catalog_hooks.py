"""What every catalog keeps of webhooks: how far they were told, and deliveries in order."""

from __future__ import annotations

import pytest
from catalogs import put, together

from carboy.catalog.base import Catalog
from carboy.catalog.base_hooks import Delivery, DeliveryFilter, Hook, Message
from carboy.errors import InvalidRequest, NotFound, StorageFailed
from carboy.model import Instance, new_id


def a_message(subject: str = "f1", kind: str = "file.create", body: str = "{}") -> Message:
    return Message(f"msg_{new_id()}", subject, kind, body)


def begun(catalog: Catalog, name: str = "a") -> Hook:
    return catalog.begin_hook(name, catalog.latest())


def told(catalog: Catalog, *messages: Message, name: str = "a", now: float = 10.0) -> list[str]:
    """Have the hook told these, and their ids."""
    hook = catalog.hook(name) or begun(catalog, name)
    assert catalog.tell_hook(hook, f"{hook.seq + 1}.{new_id()}", messages, now=now)
    return [message.id for message in messages]


def alive(catalog: Catalog) -> str:
    id = new_id()
    catalog.appear(Instance(id, "here", 1, 0))
    return id


def claimed(catalog: Catalog, instance: str | None = None, *, name: str = "a", now: float = 10.0, limit: int = 100) -> list[Delivery]:
    return catalog.claim_deliveries(name, instance or alive(catalog), now=now, limit=limit)


def states(catalog: Catalog, name: str = "a") -> dict[str, str]:
    return {one.id: one.state for one in catalog.deliveries(name)[0]}


# --- following the log -----------------------------------------------------------------------------------------------


def test_a_hook_begins_once_and_stays_where_it_is(catalog: Catalog) -> None:
    assert catalog.hook("a") is None
    first = catalog.begin_hook("a", "5")
    assert (first, catalog.begin_hook("a", "9"), catalog.hook("a")) == (Hook("a", "5", 0),) * 3


def test_deliveries_are_made_with_the_move_or_not_at_all(catalog: Catalog) -> None:
    hook = begun(catalog)
    one, two = a_message("f1", body='{"n":1}'), a_message("f2", "job.done")
    assert catalog.tell_hook(hook, "7", [one, two], now=10.0)
    assert not catalog.tell_hook(hook, "8", [a_message()], now=11.0), "it isn't there any more"
    found, following = catalog.deliveries("a")
    assert following is None
    assert catalog.hook("a") == Hook("a", "7", 2)
    assert found == [Delivery(two.id, "a", "f2", 2, "job.done", "{}", "queued", created_at=10.0, since=10.0, changed_at=10.0, due_at=10.0),
                     Delivery(one.id, "a", "f1", 1, "file.create", '{"n":1}', "queued", created_at=10.0, since=10.0, changed_at=10.0,
                              due_at=10.0)]


def test_of_two_who_follow_one_tells(catalog: Catalog) -> None:
    hook = begun(catalog)
    messages = [[a_message(f"f{n}") for n in range(3)] for _ in range(4)]
    outcomes = together(*[lambda some=some: catalog.tell_hook(hook, "7", some, now=10.0) for some in messages])  # type: ignore[misc]
    assert sorted(map(bool, outcomes)) == [False, False, False, True]
    assert len(catalog.deliveries("a")[0]) == 3


def test_the_log_says_which_request_did_it(catalog: Catalog) -> None:
    from carboy.model import Act

    before = catalog.latest()
    file = put(catalog, "a.txt")
    catalog.trash_file(file.id, now=2.0, expires_at=9.0, by=Act("ann", "token", "req-1"))
    happened, _ = catalog.happened(before)
    assert [(one.kind, one.request) for one in happened] == [("file.create", ""), ("file.trash", "req-1")]


# --- order and claims ------------------------------------------------------------------------------------------------


def test_of_one_subject_one_goes_out_at_a_time(catalog: Catalog) -> None:
    first, second, other = told(catalog, a_message("f1"), a_message("f1"), a_message("f2"))
    assert states(catalog) == {first: "queued", second: "waiting", other: "queued"}
    claims = claimed(catalog)
    assert {one.id for one in claims} == {first, other}
    assert claimed(catalog) == []
    assert catalog.settle_delivery(claims[0], "taken", now=11.0, answer="200 OK")
    assert {one.id for one in claimed(catalog, now=11.0)} == {second}


def test_one_that_is_made_behind_an_open_one_waits(catalog: Catalog) -> None:
    first, = told(catalog, a_message("f1"))
    claim, = claimed(catalog)
    second, = told(catalog, a_message("f1"))
    assert states(catalog) == {first: "sending", second: "waiting"}
    assert catalog.settle_delivery(claim, "queued", now=11.0, due_at=99.0, answer="500")
    third, = told(catalog, a_message("f1"))
    assert states(catalog) == {first: "queued", second: "waiting", third: "waiting"}
    assert claimed(catalog, now=50.0) == []
    claim, = claimed(catalog, now=99.0)
    assert (claim.id, claim.attempts, claim.fence) == (first, 2, 2)
    assert catalog.settle_delivery(claim, "dead", now=100.0, answer="500")
    assert states(catalog) == {first: "dead", second: "queued", third: "waiting"}
    dead = catalog.delivery(first)
    assert dead and (dead.answer, dead.instance) == ("500", None)


def test_trying_begins_when_its_turn_comes(catalog: Catalog) -> None:
    _, second = told(catalog, a_message("f1"), a_message("f1"), now=10.0)
    claim, = claimed(catalog)
    assert catalog.settle_delivery(claim, "dead", now=5000.0)
    claim, = claimed(catalog, now=5001.0)
    assert (claim.id, claim.attempts, claim.created_at, claim.since) == (second, 1, 10.0, 5000.0)
    assert catalog.settle_delivery(claim, "queued", now=5002.0, due_at=5010.0)
    claim, = claimed(catalog, now=5010.0)
    assert (claim.attempts, claim.since) == (2, 5000.0)


def test_none_waits_for_ever_however_making_and_ending_meet(catalog: Catalog) -> None:
    """One is made in the moment in which the one before it ends."""
    told(catalog, a_message("f1"))
    for _ in range(20):
        claim, = claimed(catalog)
        together(lambda claim=claim: catalog.settle_delivery(claim, "taken", now=11.0),  # type: ignore[misc]
                 lambda: told(catalog, a_message("f1")))
        assert catalog.deliveries_due("a", now=11.0)


def test_each_is_claimed_once(catalog: Catalog) -> None:
    ids = told(catalog, *[a_message(f"f{n}") for n in range(12)])
    instances = [alive(catalog) for _ in range(4)]
    outcomes = together(*[lambda one=one: claimed(catalog, one, limit=5) for one in instances])  # type: ignore[misc]
    got = [one.id for some in outcomes for one in some]  # type: ignore[attr-defined]
    got += [one.id for one in claimed(catalog)]
    assert sorted(got) == sorted(ids)


def test_hooks_are_apart(catalog: Catalog) -> None:
    told(catalog, a_message("f1"))
    mine, = told(catalog, a_message("f1"), name="b")
    assert [one.id for one in claimed(catalog, name="b")] == [mine]
    assert catalog.sending("b") == 1
    assert catalog.sending("a") == 0


def test_those_due_for_longest_go_first(catalog: Catalog) -> None:
    later, = told(catalog, a_message("f1"), now=20.0)
    sooner, = told(catalog, a_message("f2"), now=10.0)
    assert [one.id for one in claimed(catalog, now=30.0, limit=1)] == [sooner]
    assert [one.id for one in claimed(catalog, now=30.0, limit=1)] == [later]


def test_a_clock_that_is_set_back_holds_up_nothing(catalog: Catalog) -> None:
    told(catalog, a_message("f1"), now=1000.0)
    assert len(claimed(catalog, now=10.0)) == 1


def test_only_the_living_claim(catalog: Catalog) -> None:
    told(catalog, a_message())
    with pytest.raises(StorageFailed):
        claimed(catalog, new_id())


def test_what_the_dead_had_claimed_is_sent_again_and_they_can_say_nothing_of_it(catalog: Catalog) -> None:
    first, second = told(catalog, a_message("f1"), a_message("f1"))
    stopped, lives = alive(catalog), alive(catalog)
    old, = claimed(catalog, stopped)
    assert catalog.recover_deliveries(now=11.0) == 0, "its instance lives"
    assert catalog.bury(Instance(stopped, "here", 1, 0))
    assert catalog.recover_deliveries(now=12.0) == 1
    assert catalog.settle_delivery(old, "taken", now=12.0) is False
    new, = claimed(catalog, lives, now=12.0)
    assert (new.id, new.fence) == (first, old.fence + 1)
    assert catalog.settle_delivery(old, "taken", now=13.0) is False
    assert states(catalog) == {first: "sending", second: "waiting"}
    assert catalog.settle_delivery(new, "taken", now=13.0)
    assert catalog.settle_delivery(new, "taken", now=13.0) is False
    assert states(catalog) == {first: "taken", second: "queued"}


# --- replaying -------------------------------------------------------------------------------------------------------


def over(catalog: Catalog, count: int, name: str = "a") -> list[str]:
    """So many that were taken, each of a file of its own, made at 10, 20, ..."""
    ids = []
    for number in range(count):
        ids += told(catalog, a_message(f"f{number}"), name=name, now=10.0 * (number + 1))
    for one in claimed(catalog, name=name, now=1000.0):
        assert catalog.settle_delivery(one, "taken", now=1000.0)
    return ids


def test_a_replay_keeps_ids_and_order_and_goes_behind_what_is_open(catalog: Catalog) -> None:
    ids = told(catalog, *[a_message("f1") for _ in range(3)])
    for _ in ids:
        claim, = claimed(catalog)
        assert catalog.settle_delivery(claim, "dead", now=11.0, answer="500")
    fresh, = told(catalog, a_message("f1"), now=11.0)
    assert catalog.replay_deliveries("a", up_to=4, now=12.0) == 3
    assert catalog.replay_deliveries("a", up_to=4, now=12.0) == 0
    order = []
    while claims := claimed(catalog, now=12.0):
        order.append(claims[0].id)
        assert (claims[0].attempts, claims[0].since) == ((1, 11.0) if claims[0].id == fresh else (1, 12.0))
        assert catalog.settle_delivery(claims[0], "taken", now=12.0)
    assert order == [fresh, *ids]


def test_what_is_replayed_can_be_chosen(catalog: Catalog) -> None:
    ids = over(catalog, 5)
    for filter, expected in ((DeliveryFilter(id=ids[0]), ids[:1]), (DeliveryFilter(subject="f1"), ids[1:2]),
                             (DeliveryFilter(since=40.0), ids[3:]), (DeliveryFilter(state="dead"), []),
                             (DeliveryFilter(state="taken"), ids[2:3] + ids[:2])):
        hook = catalog.hook("a")
        assert hook
        done = catalog.replay_deliveries("a", filter, up_to=hook.seq, now=2000.0, limit=3)
        assert done == len(expected)
        claims = claimed(catalog, now=2000.0)
        assert [one.id for one in claims] == expected
        if not filter.since:
            for one in claims:
                assert catalog.settle_delivery(one, "taken", now=2000.0)


def test_a_replay_hastens_what_is_to_be_tried_later(catalog: Catalog) -> None:
    told(catalog, a_message("f1"))
    claim, = claimed(catalog)
    assert catalog.settle_delivery(claim, "queued", now=11.0, due_at=5000.0)
    assert claimed(catalog, now=20.0) == []
    assert catalog.replay_deliveries("a", up_to=1, now=20.0) == 1
    again, = claimed(catalog, now=20.0)
    assert (again.attempts, again.since) == (2, 20.0)


def test_a_hook_that_was_never_begun_replays_nothing(catalog: Catalog) -> None:
    with pytest.raises(NotFound):
        catalog.replay_deliveries("none", up_to=1, now=1.0)


# --- looking and forgetting --------------------------------------------------------------------------------------------


def test_lists_come_in_pages_the_last_first(catalog: Catalog) -> None:
    ids = over(catalog, 5)
    more = told(catalog, a_message("f1"), now=60.0)
    found, cursor, rounds = [], None, 0
    while rounds == 0 or cursor:
        page, cursor = catalog.deliveries("a", cursor=cursor, limit=2)
        found += [one.id for one in page]
        rounds += 1
    assert found == [*more, *reversed(ids)]
    assert rounds == 3
    assert [one.id for one in catalog.deliveries("a", DeliveryFilter(subject="f1"))[0]] == [*more, ids[1]]
    assert [one.id for one in catalog.deliveries("a", DeliveryFilter(subject="f1", state="taken"))[0]] == [ids[1]]
    assert catalog.deliveries("b") == ([], None)
    with pytest.raises(InvalidRequest):
        catalog.deliveries("a", cursor="x")


def test_depths_count_by_hook_and_state(catalog: Catalog) -> None:
    over(catalog, 2)
    told(catalog, a_message("f1"), a_message("f1"), name="b", now=7.0)
    assert [(one.hook, one.state, one.count, one.oldest) for one in catalog.hook_depths()] == [
        ("a", "taken", 2, 1000.0), ("b", "queued", 1, 7.0), ("b", "waiting", 1, 7.0)]


def test_what_was_taken_is_forgotten_with_the_log_and_what_was_given_up_with_the_audit_log(catalog: Catalog) -> None:
    taken = over(catalog, 1)
    dead = told(catalog, a_message("f7"))
    waits = told(catalog, a_message("f8"), now=10.0)
    for one in claimed(catalog, limit=1):
        assert one.id == dead[0]
        assert catalog.settle_delivery(one, "dead", now=1000.0)
    catalog.purge(now=3000.0, audit_before=500.0, log_before=1000.0)
    assert set(states(catalog)) == {*taken, *dead, *waits}
    catalog.purge(now=3000.0, audit_before=500.0, log_before=2000.0)
    assert set(states(catalog)) == {*dead, *waits}
    catalog.purge(now=3000.0, audit_before=2000.0, log_before=2000.0)
    assert set(states(catalog)) == {*waits}
