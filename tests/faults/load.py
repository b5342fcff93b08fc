"""Mixed traffic: many clients at once that put, replace, delete, send forms and chunks, and note what they are told."""

from __future__ import annotations

import http.client
import random
import threading
from collections import Counter
from collections.abc import Callable

from faults.journal import Change, Chunked, Content, Journal, Told
from faults.runner import Answer, Client
from faults.sequential import Protocol, Sequential

EMPTY = Content(0, 0)
KIB, MIB = 2**10, 2**20
SHARED_PATHS = 6
OPEN_CHUNKED = 6

STEPS = {"put_small": 8, "put_large": 2, "replace": 4, "delete": 3, "form": 3, "album": 2, "send_chunk": 14, "send_part": 10}

PROTOCOLS: tuple[Protocol, ...] = ("tus", "draft")


class Load:
    """``clients`` threads, each with a client of its own. At most ``budget`` bytes of content are made, and uploads have up to ``largest``."""

    def __init__(self, connect: Callable[[], Client], journal: Journal, seed: int, *, clients: int = 8, budget: int = 192 * MIB,
                 largest: int = 6 * MIB) -> None:
        self._connect, self.journal, self._seed = connect, journal, seed
        self._left, self.largest = budget, largest
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._open: list[Chunked] = []
        self._errors: list[Exception] = []
        self.told: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]

    def start(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """No new operations; waits for those under way to be answered or cut."""
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
            if thread.is_alive():
                raise TimeoutError("a client waits for an answer that never comes")
        for error in self._errors:
            raise error

    def _run(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        client = LoadClient(self, self._connect(), number, chance)
        names, weights = list(STEPS), list(STEPS.values())
        try:
            while not self._stop.is_set():
                getattr(client, chance.choices(names, weights)[0])()
        except Exception as error:  # of the load itself: what it asks may fail, which is no exception
            self._errors.append(error)
        client.close()

    def content(self, chance: random.Random, size: int) -> Content:
        """A new content; empty once the budget is spent."""
        with self._lock:
            if size > self._left:
                return EMPTY
            self._left -= size
        return Content(chance.getrandbits(100), size) if size else EMPTY

    def tell(self, step: str, ask: Callable[[], Answer]) -> Told:
        """What the client was told. A 5xx other than a full disk says nothing about what was done."""
        try:
            answer = ask()
        except (OSError, http.client.HTTPException):
            self._count(f"{step} unanswered")
            self._stop.wait(0.05)
            return "nothing"
        if self.journal.dark:
            self._count(f"{step} unanswered")
            return "nothing"
        self._count(f"{step} {answer.status}")
        if answer.ok:
            return "yes"
        return "no" if answer.status < 500 or answer.status == 507 else "nothing"

    def change(self, step: str, paths: dict[str, Content | None], ask: Callable[[], Answer]) -> Change:
        change = self.journal.begin(paths)
        self.journal.settle(change, self.tell(step, ask))
        return change

    def pick_chunk(self, chance: random.Random) -> tuple[Chunked, int | None]:
        """An upload under way and a chunk of it to send (sometimes one sent before); None: all were sent, complete it.

        The last chunk and the completion wait for repetitions under way: what comes after the completion is a new upload.
        """
        with self._lock:
            if len(self._open) < OPEN_CHUNKED:
                self._open.append(self._new_chunked(chance))
            upload = chance.choice(self._open)
            while upload.repeating and upload.fresh < 2:
                self._open.append(upload := self._new_chunked(chance))
            index = upload.pick(chance)
            if index is None:
                self._open.remove(upload)
            return upload, index

    def _new_chunked(self, chance: random.Random) -> Chunked:
        size = chance.randrange(16, self.largest if self._left > self.largest else 64 * KIB)
        self._left -= size
        upload = Chunked(f"chunked-{chance.getrandbits(64):016x}.bin", Content(chance.getrandbits(100), size),
                         max(64 * KIB, size // chance.randrange(1, 12)), chance.choice(["offset", "stride", "bare"]))
        return self.journal.start_chunked(upload)

    def _count(self, what: str) -> None:
        with self._lock:
            self.told[what] += 1


class LoadClient:
    """The steps one client takes. Each public method is one operation."""

    def __init__(self, load: Load, client: Client, number: int, chance: random.Random) -> None:
        self._load, self._client, self._number, self._chance = load, client, number, chance
        self._own: list[str] = []
        self._upload: Sequential | None = None
        self._lost = False

    def put_small(self) -> None:
        self._put("put_small", f"small/{self._name()}", self._chance.choice([0, 16, self._size(64 * KIB)]))

    def put_large(self) -> None:
        self._put("put_large", f"large/{self._name()}", self._size(10 * MIB))

    def replace(self) -> None:
        self._put("replace", self._shared(), self._size(256 * KIB))

    def delete(self) -> None:
        own = self._own and self._chance.random() < 0.5
        path = self._own.pop(self._chance.randrange(len(self._own))) if own else self._shared()
        self._load.change("delete", {path: None}, lambda: self._client.delete(path))

    def form(self) -> None:
        """Files in a folder of their own."""
        self._form("form", f"forms/{self._name()}", self._chance.randrange(2, 7))

    def album(self) -> None:
        """The same three files again and again: they must always be of one and the same form."""
        self._form("album", f"album-{self._number}", 3)

    def send_chunk(self) -> None:
        upload, index = self._load.pick_chunk(self._chance)
        if index is None:
            upload.completed = "nothing"
            upload.completed = self._load.tell("complete", lambda: self._client.complete(upload.file_id, upload.count))
            return
        data, fields = upload.chunk(index), upload.fields(index)
        told = self._load.tell(f"chunk_{upload.how}", lambda: self._client.chunk(upload.file_id, index, data, **fields))
        upload.note(index, told)

    def send_part(self) -> None:
        """The next bytes of this client's own upload by one of the protocols that tell an offset; or where it stands, if the last
        answer never came."""
        upload = self._upload or self._begin()
        if upload is None:
            return
        if self._lost:
            self._lost = not self._asked("stand", upload, lambda: upload.stand(self._client))
        elif not upload.told:
            most = upload.content.size - (upload.protocol == "draft")  # all at once is no upload there, but a file at its address
            first = min(most, self._size(256 * KIB)) if self._chance.random() < 0.5 else 0
            if not self._asked("create", upload, lambda: upload.create(self._client, first), first):
                self._upload = None
        elif not self._asked("append", upload, lambda: upload.append(self._client, self._size(self._load.largest // 3))):
            self._lost = True
        if upload.completed:
            self._upload = None

    def _begin(self) -> Sequential | None:
        content = self._load.content(self._chance, self._size(self._load.largest))
        if not content.size:
            return None
        protocol: Protocol = self._chance.choice(PROTOCOLS)
        self._upload, self._lost = Sequential(f"{protocol}-{self._name()}.bin", content, protocol), False
        self._load.journal.start_sequential(self._upload)
        return self._upload

    def _asked(self, step: str, upload: Sequential, ask: Callable[[], Answer], sent: int = 0) -> bool:
        """Whether an answer told something; it is noted before the next is asked."""
        answers: list[Answer] = []

        def kept() -> Answer:
            answers.append(ask())
            return answers[0]

        told = self._load.tell(f"{upload.protocol}_{step}", kept)
        if told == "yes":
            upload.note(answers[0], sent)
        return told == "yes"

    def close(self) -> None:
        self._client.close()

    def _put(self, step: str, path: str, size: int) -> None:
        content = self._load.content(self._chance, size)
        data = content.read()
        change = self._load.change(step, {path: content}, lambda: self._client.put(path, data))
        if change.told == "yes":
            self._own.append(path)

    def _form(self, step: str, folder: str, count: int) -> None:
        contents = {str(n): self._load.content(self._chance, self._size(128 * KIB)) for n in range(count)}
        files = [(name, content.read()) for name, content in contents.items()]
        self._load.change(step, {f"{folder}/{name}": content for name, content in contents.items()},
                          lambda: self._client.form(folder, files))

    def _size(self, most: int) -> int:
        return max(16, int(most ** self._chance.random()))

    def _name(self) -> str:
        return f"{self._chance.getrandbits(64):016x}"

    def _shared(self) -> str:
        return f"same/{self._chance.randrange(SHARED_PATHS)}"
