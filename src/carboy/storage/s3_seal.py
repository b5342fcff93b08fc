"""An upload becomes one object: its parts in order, and pieces joined into parts where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from carboy.errors import BytesMissing, StorageFailed
from carboy.model import Fragment, Key
from carboy.storage.base import Hold
from carboy.storage.s3_filling import Kit
from carboy.storage.s3_mending import Mending
from carboy.storage.s3_multiparts import Part
from carboy.storage.s3_parts import MAX_PART, MIN_PART, plan_of


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring fragments that are one part: a part of the upload alone, or pieces."""

    fragments: Sequence[Fragment]

    @property
    def start(self) -> int:
        return self.fragments[0].start

    @property
    def end(self) -> int:
        return self.fragments[-1].end

    @property
    def part(self) -> Fragment | None:
        """The one that is a part already."""
        return None if self.fragments[0].key else self.fragments[0]


class Sealing:
    """One upload's. Whatever was done of it before, or is done at the same time by another, is harmless; where it wouldn't be, ``alone`` is
    held, or raises RangeBusy."""

    def __init__(self, kit: Kit, key: Key, size: int, state: Mapping[str, Any], fragments: Sequence[Fragment],
                 alone: Callable[[], AbstractContextManager[Hold]]) -> None:
        self._kit = kit
        self._alone = alone
        self._key = key
        self._size = size
        self._begun = "upload" in state
        self._upload: str | None = state.get("upload")
        self._plan = plan_of(state, kit.part)
        self._fragments = _upto(fragments, size)

    def run(self) -> None:
        """Raises BytesMissing where bytes are neither among the fragments nor there already, StorageFailed where S3 has lost some."""
        if not self._size and self._begun:
            self._empty()
        elif not self._size or not self._covered():
            self._there()
        elif self._is_whole():
            return  # S3 has confirmed it by its checksum before the fragment was recorded
        elif not self._upload:
            self._put()
        else:
            self._complete(self._upload)

    # --- small ones ---

    def _empty(self) -> None:
        head = self._kit.objects.head(self._key)
        if head is None:
            self._kit.objects.put(self._key, self._kit.budget.block(0))
        elif head.size:
            raise StorageFailed("S3 has other bytes than it was sent", key=self._key, size=0, stored=head.size)
        if self._upload:
            self._kit.objects.abort(self._key, self._upload)

    def _there(self) -> None:
        """It must be whole already."""
        if not self._is_there():
            raise BytesMissing("the upload's bytes are not all there", size=self._size)

    def _is_there(self) -> bool:
        head = self._kit.objects.head(self._key)
        return head is not None and head.size == self._size

    def _put(self) -> None:
        block = self._kit.budget.block(self._size)
        try:
            self._kit.join(self._fragments, block)
            self._kit.objects.put(self._key, block)
        except BytesMissing:  # another has joined them, and they are gone since
            self._there()
        finally:
            block.close()

    # --- multipart ones ---

    def _complete(self, upload: str) -> None:
        groups = list(self._groups())
        stuck = self._stuck(groups)
        if stuck:
            with self._alone() as hold:
                self._mend(upload, groups, [piece for group in stuck for piece in group.fragments], hold)
        elif all(group.part for group in groups) or not self._is_there():
            self._join(upload, groups)

    def _join(self, upload: str, groups: Sequence[Group]) -> None:
        try:
            parts = [self._made(upload, group) for group in groups]
        except StorageFailed:  # another has joined them meanwhile
            if self._is_there():
                return
            raise
        self._kit.objects.complete(self._key, upload, parts)

    def _mend(self, upload: str, groups: Sequence[Group], left_out: Sequence[Fragment], hold: Hold) -> None:
        head = self._kit.objects.head(self._key)
        if head is None:
            kept = [group for group in groups if group.fragments[0] not in left_out]
            self._join(upload, kept)
            head = self._kit.objects.head(self._key)
        if head is None or head.size not in (self._size, self._size - sum(one.end - one.start for one in left_out)):
            raise StorageFailed("S3 has other bytes than it was sent", key=self._key, size=self._size)
        if head.size < self._size:
            Mending(self._kit, self._key, self._size, head.etag, self._fragments, left_out, hold.check).run()

    def _groups(self) -> Iterator[Group]:
        """Parts as they are, and pieces put together so that all but the last are allowed as parts, where that can be."""
        run: list[Fragment] = []
        for fragment in self._fragments:
            if fragment.key:
                run.append(fragment)
                continue
            yield from self._grouped(run)
            run = []
            yield Group([fragment])
        yield from self._grouped(run)

    def _grouped(self, run: list[Fragment]) -> Iterator[Group]:
        groups: list[list[Fragment]] = []
        for piece in run:
            if groups and not self._plan.allows(groups[-1][0].start, groups[-1][-1].end):
                groups[-1].append(piece)
            else:
                groups.append([piece])
        if len(groups) > 1 and groups[-1][-1].end != self._size and not self._plan.allows(groups[-1][0].start, groups[-1][-1].end):
            groups[-2:] = [groups[-2] + groups[-1]]
        return map(Group, groups)

    def _stuck(self, groups: Sequence[Group]) -> list[Group]:
        """Those that can be no part: too short, and between parts, which can't be read before they are an object."""
        return [one for one, _ in pairwise(groups) if not one.part and not self._plan.allows(one.start, one.end)]

    def _made(self, upload: str, group: Group) -> Part:
        part = group.part
        if part:
            return Part(part.ref["number"], part.ref["etag"], part.end - part.start, part.crc)
        number = self._plan.number(group.start, 0)
        if len(group.fragments) == 1 and MIN_PART <= group.end - group.start <= MAX_PART:
            piece = group.fragments[0]
            copied = self._kit.objects.copy_part(self._key, upload, number, piece.key or Key(""), 0, group.end - group.start, crc=piece.crc)
            if copied is None:
                raise BytesMissing("the stored bytes are missing", key=piece.key)
            return copied
        block = self._kit.budget.block(group.end - group.start)
        try:
            self._kit.join(group.fragments, block)
            return self._kit.objects.part(self._key, upload, number, block)
        finally:
            block.close()

    # --- what there is ---

    def _covered(self) -> bool:
        at = 0
        for fragment in self._fragments:
            if fragment.start != at:
                return False
            at = fragment.end
        return at == self._size

    def _is_whole(self) -> bool:
        return len(self._fragments) == 1 and "whole" in self._fragments[0].ref


def _upto(fragments: Sequence[Fragment], size: int) -> list[Fragment]:
    return sorted((one for one in fragments if one.start < size), key=lambda one: one.start)
