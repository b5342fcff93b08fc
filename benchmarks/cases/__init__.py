"""The cases, in the order in which they are told. Each module has NAME, TITLE and ``run(lab)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from benchmarks.cases import (
    complete_200,
    download,
    form,
    form_of_50,
    jobs,
    listing,
    memory,
    postgres,
    raw_put,
    s3_download,
    s3_many,
    s3_upload,
    sha256,
    slow_clients,
    small_files,
    tus,
    tus_parallel,
    tus_small,
)
from benchmarks.lab import Lab
from benchmarks.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Case:
    """What can be asked for by name. ``on_disk``: worth a second pass onto a real disk."""

    name: str
    title: str
    run: Callable[[Lab], Outcome]
    on_disk: bool = False


def _case(module: ModuleType, on_disk: bool = False) -> Case:
    return Case(module.NAME, module.TITLE, module.run, on_disk)


CASES = (_case(raw_put, on_disk=True), _case(form, on_disk=True), _case(sha256), _case(small_files, on_disk=True), _case(form_of_50),
         _case(complete_200), _case(memory), _case(slow_clients), _case(download), _case(listing),
         _case(tus, on_disk=True), _case(tus_small, on_disk=True), _case(tus_parallel, on_disk=True),
         _case(s3_upload), _case(s3_download), _case(s3_many), _case(postgres), _case(jobs))
