"""Settings -> objects. The only module that names a driver."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from carboy.catalog.base import Catalog
from carboy.catalog.sql import open_catalog, sqlite_file
from carboy.config import Settings
from carboy.engine.backup import Backup
from carboy.engine.changes import Changes
from carboy.engine.direct import DirectUploads
from carboy.engine.exporting import Exporter
from carboy.engine.files import Files
from carboy.engine.finding import Finder
from carboy.engine.fsck import Fsck
from carboy.engine.importing import Importer
from carboy.engine.leases import Leases
from carboy.engine.links import Links
from carboy.engine.migrating import Migrator
from carboy.engine.news import News
from carboy.engine.observing import Tell, observed
from carboy.engine.receive import Receiver
from carboy.engine.restoring import RESTORING, Restore
from carboy.engine.scrub import Scrubber
from carboy.engine.signing import Signer
from carboy.engine.snapshots import Snapshots
from carboy.engine.staging import Staging
from carboy.engine.storages import Storages
from carboy.engine.sweeper import Sweeper
from carboy.engine.tokens import Tokens
from carboy.engine.uploads import Uploads
from carboy.engine.zips import Zips
from carboy.errors import ConfigError
from carboy.measuring import Meter
from carboy.processing.asking import Work
from carboy.processing.delivering.delivery import Deliverer
from carboy.processing.isolating.isolation import Isolation
from carboy.processing.pipeline import Pipeline
from carboy.processing.registry import known_steps
from carboy.processing.running import Runner, Within
from carboy.processing.step import Step
from carboy.processing.tasks import Tasks
from carboy.processing.wakes import Wakes
from carboy.processing.webhooks.office import Webhooks
from carboy.processing.webhooks.posting import Poster
from carboy.processing.webhooks.postman import Postman
from carboy.storage.base import OnDisk, Storage
from carboy.storage.local import LocalStorage
from carboy.storage.s3 import S3Storage


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a door into Carboy (HTTP, the command line) calls."""

    settings: Settings
    catalog: Catalog
    storages: Mapping[str, Storage]
    tokens: Tokens
    files: Files
    changes: Changes
    finder: Finder
    signer: Signer
    links: Links
    zips: Zips
    receiver: Receiver
    staging: Staging
    uploads: Uploads
    direct: DirectUploads
    leases: Leases
    sweeper: Sweeper
    fsck: Fsck
    importer: Importer
    exporter: Exporter
    backup: Backup
    restore: Restore
    scrubber: Scrubber
    migrator: Migrator
    snapshots: Snapshots
    pipeline: Pipeline
    tasks: Tasks
    runner: Runner
    deliverer: Deliverer
    isolation: Isolation
    wakes: Wakes
    meter: Meter
    webhooks: Webhooks
    work: Work
    news: News


def open_carboy(settings: Settings, *, clock: Callable[[], float] = time.time, tell: Tell | None = None,
                steps: Iterable[Step] = (), within: Within = nullcontext) -> Services:
    """The services on these settings. No I/O: everything opens when first used, in each process for itself. ``tell`` hears of every
    change of a file. ``steps`` are an application's own; steps run ``within`` its context.

    Raises ConfigError where a space names a storage or a step that isn't there.
    """
    durable = settings.durability == "full"
    known = known_steps(settings)
    known.add(steps)
    pipeline, wakes = Pipeline(settings, known), Wakes(settings.data.absolute() / "wakes")
    bell = Wakes(settings.data.absolute() / "news")
    pipeline.check()
    meter = Meter(settings.data.absolute(), on=settings.metrics != "off")
    catalog = open_catalog(database_url(settings), durable=durable, plan=pipeline, wake=wakes.wake, meter=meter)
    if tell:
        catalog = observed(catalog, tell)
    local = LocalStorage(settings.data.absolute() / "blobs", durable=durable, meter=meter)
    leases = Leases(catalog, settings.lease_expiry)
    storages = _storages(settings, local, leases, meter)
    executor = _executor()
    catalog_file = sqlite_file(database_url(settings))
    uploads = Uploads(settings, catalog, storages, executor, clock, meter)
    leases.listen(uploads.turns.stop_here)
    direct = DirectUploads(settings, catalog, storages, uploads, clock)
    files = Files(settings, catalog, storages, clock)
    receiver = Receiver(settings, catalog, storages, executor, clock)
    isolation = Isolation(settings)
    runner = Runner(settings, catalog, storages, known, isolation, settings.data.absolute() / "spool", clock, within, bell.wake,
                    meter)
    tokens, signer = Tokens(catalog, clock), Signer(settings, catalog, clock)
    return Services(
        settings=settings, catalog=catalog, storages=storages, tokens=tokens, files=files,
        changes=Changes(settings, catalog, files, clock),
        finder=Finder(settings, catalog, files),
        signer=signer,
        links=Links(settings, catalog, files, tokens, signer, clock),
        zips=Zips(settings, catalog, storages, files, clock),
        receiver=receiver,
        staging=Staging(settings, catalog, receiver, files, clock),
        uploads=uploads,
        direct=direct,
        leases=leases,
        sweeper=Sweeper(settings, catalog, storages, uploads, clock, direct.settle),
        fsck=Fsck(catalog, storages),
        importer=Importer(settings, catalog, storages, executor, clock),
        exporter=Exporter(settings, catalog, storages),
        backup=Backup(settings, catalog, local, Elsewhere(), executor, clock),
        restore=Restore(settings, catalog_file, local, Elsewhere(), executor, clock),
        scrubber=Scrubber(settings, catalog, storages, Elsewhere(), clock),
        migrator=Migrator(settings, catalog, storages, executor, clock),
        snapshots=Snapshots(settings, catalog, catalog_file, clock),
        pipeline=pipeline,
        tasks=Tasks(catalog, pipeline, clock),
        runner=runner,
        deliverer=Deliverer(catalog, leases, runner, wakes, rests=all(isinstance(one, OnDisk) for one in storages.values()), clock=clock),
        isolation=isolation,
        wakes=wakes,
        meter=meter,
        webhooks=_webhooks(settings, catalog, clock),
        work=Work(settings, catalog, files, pipeline, clock),
        news=News(catalog, bell),
    )


def _webhooks(settings: Settings, catalog: Catalog, clock: Callable[[], float]) -> Webhooks:
    """Raises ConfigError where one is to be told of a space that isn't there."""
    for name, hook in settings.webhooks.items():
        for space in hook.spaces:
            if space not in settings.spaces:
                raise ConfigError(f"webhooks.{name}.spaces: there is no space {space!r}; there is {', '.join(settings.spaces)}",
                                  setting=f"webhooks.{name}.spaces")
    return Webhooks(settings, catalog, Poster(), clock)


def _storages(settings: Settings, local: LocalStorage, leases: Leases, meter: Meter) -> Storages:
    """All that the settings name. Raises ConfigError where a space names another."""
    spool = settings.data.absolute() / "spool"
    storages = Storages({"local": local, **{
        name: S3Storage(options, leases, name=name, spool=spool, meter=meter) for name, options in settings.storages.items()}})
    for name, space in settings.spaces.items():
        if space.storage not in storages:
            raise ConfigError(f"spaces.{name}.storage: there is no storage {space.storage!r}; there is {', '.join(storages)}",
                              setting=f"spaces.{name}.storage")
    return storages


class Elsewhere:
    """Opens what lies in other folders: backups, snapshots."""

    def catalog(self, file: Path) -> Catalog:
        return open_catalog(f"sqlite:///{file.absolute()}")

    def vault(self, folder: Path) -> LocalStorage:
        return LocalStorage(folder.absolute())


def postman(services: Services) -> Postman | None:
    """Who delivers to webhooks, where there are any: one for each process that runs in the background. To be started, and let go."""
    settings = services.settings
    if not settings.webhooks:
        return None
    return Postman(services.catalog, services.webhooks, Leases(services.catalog, settings.lease_expiry), settings.data,
                   shared=settings.database.startswith("postgresql"), poll=settings.job_poll)


def prepare(services: Services) -> str | None:
    """Make what must exist before the first request: folders, schema, somebody who may administer. Repeatable.

    Returns the secret of the first token if this start made it.
    """
    make_ready(services)
    return services.tokens.first(services.settings.data, services.settings.admin_token)


def make_ready(services: Services) -> None:
    """The same without a first token: an application knows its own people."""
    settings = services.settings
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (settings.data / RESTORING).exists():
        raise ConfigError(f"a restore into {str(settings.data)!r} was cut short; run `carboy restore` again", setting="data")
    if services.settings.database.startswith("postgresql"):
        services.catalog.check()
    else:
        services.catalog.migrate()
    for storage in services.storages.values():
        storage.prepare()


def close(services: Services) -> None:
    """Let everything go that is open: nothing is under way, and these services are used no more."""
    services.news.close()
    services.wakes.close()
    services.isolation.close()
    services.uploads.executor.shutdown()
    services.uploads.turns.close()
    services.leases.close()
    services.catalog.close()
    for storage in services.storages.values():
        storage.close()
    services.meter.close()


def database_url(settings: Settings) -> str:
    """The catalog's SQLAlchemy URL."""
    return settings.database or f"sqlite:///{settings.data.absolute() / 'catalog.sqlite3'}"


def _executor() -> Executor:
    """Threads for the syncs that run beside the reading. They start when first used, so after a fork each process has its own."""
    return ThreadPoolExecutor(max_workers=max(2, min(8, os.cpu_count() or 2)), thread_name_prefix="checkpoint")
