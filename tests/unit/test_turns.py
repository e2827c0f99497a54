"""Threads that share connections get them in the order in which they came."""

from __future__ import annotations

import threading

from balsam.store.turns import Turns
from tests.integration.conftest import wait_until


def test_who_does_not_wait_long_enough_leaves_the_turn_to_others() -> None:
    turns = Turns(1)
    assert turns.take(60)
    assert not turns.take(0.01)
    turns.give_back()
    assert turns.take(0.01)


def test_as_many_as_there_are() -> None:
    turns = Turns(2)
    assert turns.take(60)
    assert turns.take(60)
    assert not turns.take(0.01)


def test_first_come_first_served() -> None:
    turns = Turns(1)
    assert turns.take(60)
    came: list[int] = []

    def wait(which: int) -> None:
        assert turns.take(60)
        came.append(which)
        turns.give_back()

    threads = [threading.Thread(target=wait, args=(i,)) for i in range(5)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        wait_until(lambda n=number: len(turns._waiting) == n)
    turns.give_back()
    assert turns.take(60), "who comes again waits behind those who are there"
    assert came == list(range(5))
    turns.give_back()
    for thread in threads:
        thread.join()
