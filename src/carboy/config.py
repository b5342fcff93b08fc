"""Settings: the only reader of the environment, ``carboy.toml`` and (in an application) ``app.config``.

Precedence: arguments (the command line's flags), then ``CARBOY_*`` variables, then ``carboy.toml``, then defaults.
"""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError, TomlConfigSettingsSource

from carboy.errors import ConfigError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
SPACE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def parse_size(value: Any) -> Any:
    """``"5 MB"`` or ``"64MiB"`` as bytes; numbers pass. Raises ValueError saying what would be right."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
    if not match or match[2].lower() not in _UNITS:
        raise ValueError(f"{value!r} is not a size; write bytes or a number with kB, MB, GB, TB, KiB, MiB, GiB or TiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]


class SpaceSettings(BaseModel):
    """The rules of one space."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accept: tuple[str, ...] = Field((), description="Media types taken, as `image/*` or `application/pdf`; empty takes all. "
                                                    "The detected type counts, not the name's or the client's.")
    max_size: Size = Field(2**63 - 1, description="The largest file, in bytes or as `5 MB`.")
    on_conflict: Literal["replace", "rename", "refuse"] = Field("replace", description="What happens where a file is already.")
    versions: int = Field(0, ge=0, description="How many older contents of a file are kept.")
    quota: Size | None = Field(None, description="The most bytes that the space may keep: contents, older versions and the trash.")
    owner_quota: Size | None = Field(None, description="The same for each owner in the space.")
    trash: float = Field(30 * 86400.0, ge=0, description="Deleted files can be restored for this long; 0 deletes at once.")
    public: Literal["", "read", "write"] = Field("", description="What anybody may do without a token.")
    private: bool = Field(False, description="Gives each owner a tree of its own.")
    storage: str = Field("local", description="The storage that keeps the bytes.")
    steps: tuple[str, ...] = Field((), description="What each new content goes through in the background, such as "
                                                   "`[\"digest\", \"image\", \"thumbnails\"]`; each step takes those of its types.")
    hold: tuple[str, ...] = Field((), description="Steps that have to be through with a content before others than its owner are given it, "
                                                  "such as `[\"scan\"]`; they needn't stand in `steps` as well.")
    unscanned: Literal["hold", "pass"] = Field("hold", description="What becomes of a held content that the virus scan can't look at, "
                                                                   "because it is too large for it or locked.")
    dedup: bool = Field(False, description="Keeps the bytes of equal files once, among those of the space (of one owner where it is "
                                           "private). ETags then change once, when the second turns out to be the same.")


def _is_webhook_secret(secret: str) -> bool:
    try:
        return secret.startswith("whsec_") and 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    except ValueError:
        return False


class WebhookSettings(BaseModel):
    """One address that is told of what happens, by Standard Webhooks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(min_length=1, description="The address that is POSTed to.")
    secret: str = Field("", repr=False, description="Signs what is sent, as `whsec_…` with Base64 of 24 to 64 bytes; empty makes one, "
                                                    "which `carboy webhooks secret NAME` shows.")
    old_secrets: tuple[str, ...] = Field((), repr=False, description="Secrets that sign too, while receivers change to a new one.")
    spaces: tuple[str, ...] = Field((), description="The spaces whose news are told; empty is all.")
    events: tuple[str, ...] = Field(("file.*", "job.done", "job.dead"), description="What is told, by its kind, as `file.create` "
                                                                                    "or `job.*`.")
    allow_private: bool = Field(False, description="Lets it go to addresses of private networks, and of this machine.")
    timeout: float = Field(15.0, gt=0, le=300, description="How long an answer may take.")
    retry_for: float = Field(3 * 86400.0, ge=0, description="What isn't taken is tried again for this long, less and less often.")

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        wrong = f"{url!r} is no address for webhooks; write such as https://app.example/hooks"
        if not re.fullmatch(r"https?://[!-~]+", url, re.IGNORECASE) or "#" in url or "\\" in url:
            raise ValueError(f"{wrong}, in ASCII without spaces and #")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(wrong) from None
        if not parts.hostname or port == 0:
            raise ValueError(wrong)
        if "@" in parts.netloc:
            raise ValueError("the address of a webhook holds no name and password; messages are proved by their signature")
        return url

    @field_validator("secret", "old_secrets")
    @classmethod
    def _secrets(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for secret in (given,) if isinstance(given, str) else given:
            if (secret or not isinstance(given, str)) and not _is_webhook_secret(secret):
                raise ValueError("must be whsec_ and the Base64 of 24 to 64 bytes; leave it out to have one made")
        return given

    @field_validator("events")
    @classmethod
    def _kinds(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in events:
            if not re.fullmatch(r"(\*|(\*|file|folder|upload|job)\.[a-z_*?]+)", pattern):
                raise ValueError(f"{pattern!r} is no kind of event; write such as file.create, file.* or job.dead")
        return events


class S3StorageSettings(BaseModel):
    """One storage on an S3-compatible server. The keys come from where the AWS tools look: environment, profile, the machine's role."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["s3"] = Field("s3", description="The kind of storage.")
    bucket: str = Field(min_length=1, description="The bucket; it has to be there.")
    prefix: str = Field("", description="What the names of all objects begin with, such as `carboy/`.")
    endpoint: str = Field("", description="The address of the S3 server; empty is AWS.")
    public_endpoint: str = Field("", description="Its address for clients who are sent there, by redirects and direct uploads; "
                                                 "empty is `endpoint`.")
    region: str = Field("", description="The region; empty is what the AWS tools are set up with, else `us-east-1`.")
    style: Literal["auto", "path", "virtual"] = Field("auto", description="Whether the bucket stands in the path or in the host's name.")
    part_size: Size = Field(8 * 2**20, ge=5 * 2**20, le=2**30,
                            description="Larger files go to the storage in parts of at least this size; large ones have larger parts.")
    memory: Size = Field(256 * 2**20, ge=16 * 2**20,
                         description="The most memory that a process uses for parts on their way; beyond it they wait in temporary files.")
    storage_class: str = Field("", description="The storage class of objects, such as `STANDARD_IA`; empty is the bucket's own.")
    sse: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = Field("", description="How the server encrypts; empty is the bucket's own way.")
    sse_kms_key: str = Field("", description="The KMS key's id for `aws:kms`.")
    deadline: float = Field(60.0, ge=1, description="What fails is tried again for this long.")
    redirect: bool = Field(False, description="Sends downloads to the S3 server by a signed address; else they pass through Carboy.")
    redirect_expiry: float = Field(900.0, gt=0, le=7 * 86400, description="How long such an address is good.")
    ca: str = Field("", description="The file of certificates (PEM) that vouch for the S3 server, where the system's don't.")


class Settings(BaseSettings):
    """All settings of a Carboy server. Sizes take units, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="CARBOY_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file="carboy.toml",
                                      nested_model_default_partial_update=True)

    data: Path = Field(Path("data"), description="The folder of the catalog and the local storage.")
    database: str = Field("", description="SQLAlchemy URL of the catalog; empty is SQLite in the data folder.")
    host: str = Field("127.0.0.1", description="The address the server binds.")
    port: int = Field(8080, ge=0, le=65535, description="The port the server binds; 0 picks a free one.")
    tls_cert: str = Field("", description="The file of the server's certificate and those that vouch for it (PEM). With `tls_key` the "
                                          "server speaks HTTPS alone.")
    tls_key: str = Field("", description="The file of the certificate's private key (PEM, without a password).")
    workers: int = Field(0, ge=0, description="Server processes; 0 is one per processor, at most 4.")
    threads: int = Field(1024, ge=8, description="Most threads of each server process; they start when needed.")
    reserved_threads: int = Field(64, ge=1, description="Threads that requests with bodies may not take.")
    uploads_per_client: int = Field(512, ge=1, description="Most bodies one principal or one address may send to a process at once.")
    durability: Literal["full", "relaxed"] = Field("full",
                                                   description="`relaxed` skips the syncs: a power cut then loses what was acknowledged.")

    header_timeout: float = Field(10.0, gt=0, description="A request's head must have come in this time.")
    body_idle: float = Field(30.0, gt=0, description="A body may be silent this long.")
    body_min_rate: Size = Field(500,
                                description="A body must come at this many bytes per second, "
                                            "averaged over `body_rate_window`; 0 switches it off.")
    body_rate_window: float = Field(30.0, gt=0, description="The window of the minimum rate.")
    send_idle: float = Field(60.0, gt=0, description="A client that takes no byte of an answer for this long is cut.")
    graceful_timeout: float = Field(30.0, gt=0, description="How long a stopping server lets requests finish.")
    checkpoint_bytes: Size = Field(64 * 2**20, description="A resumable body is synced and recorded after this many bytes at the latest.")
    checkpoint_seconds: float = Field(0.5, gt=0, description="... or after this time.")

    max_size: Size = Field(2**63 - 1, description="The largest file in any space.")
    max_form_parts: int = Field(1000, ge=1, description="Most parts of one form.")
    max_field_size: Size = Field(64 * 2**10, description="The largest text field of a form.")
    max_fields_size: Size = Field(1 * 2**20, description="The most all text fields of a form may hold together.")
    max_part_header: Size = Field(4096, description="The longest header line of a form's part.")
    max_header_size: Size = Field(8190, description="The longest header line of a request.")

    upload_expiry: float = Field(24 * 3600.0, gt=0,
                                 description="An upload that takes no bytes for this long is swept; completed ones answer HEAD this long.")
    event_expiry: float = Field(86400.0, ge=60, description="What happened can be asked for again, by those who were away, for this long.")
    event_streams: int = Field(64, ge=1, description="Most clients that a process tells what happens while it happens; each takes a "
                                                         "thread.")
    longest_wait: float = Field(30.0, ge=0, description="The longest that an upload's answer waits for its jobs, where `Prefer: wait` asks "
                                                        "for it.")
    staged_expiry: float = Field(24 * 3600.0, gt=0,
                                 description="Files that an application received and didn't keep are swept after this time.")
    zip_expiry: float = Field(24 * 3600.0, gt=0, description="A zip that was asked for can be fetched, and resumed, for this long.")
    audit_expiry: float = Field(365 * 86400.0, ge=0, description="Entries of the audit log are kept this long; 0 keeps no log.")
    secret_key: str = Field("", repr=False, description="Signs links, addresses and the page's cookies; at least 32 characters. "
                                                        "Empty makes one, kept in the catalog.")
    secret_key_fallbacks: tuple[str, ...] = Field((), repr=False, description="Older keys that still prove what they signed.")
    docs: bool = Field(True, description="Serves /openapi.json and /docs, the description of all routes, to everybody.")
    page: bool = Field(True, description="Serves the page for people: folders and forms for browsers, and signing in.")
    session_expiry: float = Field(14 * 86400.0, gt=0, description="Who signed in on the page stays so this long; "
                                                                "a revoked token ends it at once.")
    reservation_expiry: float = Field(900.0, gt=0, description="Room promised to a declared size lapses after this idle time.")
    reservation_cap: float = Field(0.5, gt=0, le=1, description="The part of the free room that one principal may reserve "
                                        "before its bytes come; a file that comes in one request may take it all.")
    reserve_from: Size = Field(16 * 2**20, description="One-request uploads below this size reserve nothing.")
    lease_expiry: float = Field(15.0, ge=1, description="A process that writes to S3 and gives no sign of life for this long is taken for "
                                                        "dead; others go on with its uploads. The same for all nodes.")
    delete_grace: float = Field(300.0, ge=0, description="Bytes of a deleted file are kept this long for downloads under way.")
    sweep: bool = Field(True, description="The server, or the application, sweeps by itself; "
                                           "else `carboy sweep` has to run from time to time.")
    sweep_interval: float = Field(60.0, gt=0, description="How often the sweeper runs.")
    orphan_interval: float = Field(3600.0, gt=0, description="How often the sweeper looks for bytes the catalog doesn't know.")
    snapshot_interval: float = Field(86400.0, ge=0, description="How often a catalog in SQLite is copied "
                                                                 "into `data/snapshots`; 0 is never.")
    snapshots_kept: int = Field(7, ge=1, description="How many of these copies are kept.")
    scrub_interval: float = Field(0.0, ge=0, description="How long after one pass the server begins to read all stored bytes "
                                                         "again, to find damaged ones; 0 is never.")
    scrub_rate: Size = Field(50 * 10**6, gt=0, description="How many bytes a second the server reads for that.")

    worker: bool = Field(True, description="`carboy serve` runs jobs too, in a process beside the web's, where there is no `broker`; "
                                           "else `carboy worker` has to.")
    job_workers: int = Field(0, ge=0, description="How many jobs a worker runs at once; 0 is one per processor.")
    job_poll: float = Field(1.0, gt=0, description="How often a worker looks for jobs that nobody told it of.")
    job_queues: dict[str, str] = Field(default_factory=dict, description="Queues by step, for those that are to have workers of their own "
                                                                         "(`carboy worker --queues`): `{transcode = \"video\"}`.")
    broker: str = Field("", repr=False, description="Where Celery delivers jobs, such as `redis://localhost:6379/0`; wants the package "
                                                    "`celery`. Empty: workers look in the catalog themselves.")
    broker_options: dict[str, Any] = Field(default_factory=dict, repr=False, description="What Celery's transport to the broker is told "
                                                                                         "besides (`broker_transport_options`), such as "
                                                                                         "`{master_name = \"main\"}` for Redis Sentinel.")
    step_modules: tuple[str, ...] = Field((), description="Python modules with steps of your own (`@carboy.step`).")
    step_memory: Size = Field(2**30, ge=64 * 2**20, description="The most memory that a step in a process of its own may take.")
    step_cpu: float = Field(120.0, ge=1, description="The most processor time, in seconds, of such a process.")
    step_output: Size = Field(2**30, description="The largest file that such a process may write.")
    image_pixels: int = Field(100_000_000, ge=1, description="Images with more pixels are not decoded.")
    thumbnail_sizes: tuple[int, ...] = Field((160, 640), description="The longest sides of thumbnails, in pixels.")
    thumbnail_formats: tuple[Literal["webp", "jpeg"], ...] = Field(("webp",), description="The formats of thumbnails.")
    clamd: str = Field("", description="Where clamd listens, for the step `scan`: `unix:/run/clamav/clamd.ctl` or `tcp:localhost:3310`.")
    webhooks: dict[str, WebhookSettings] = Field(default_factory=dict, description="Who is told of what happens, by name.")
    metrics: Literal["off", "token", "open"] = Field("token", description="Who may read `/metrics`: tokens with `*:admin`, anybody, or "
                                                                          "nobody.")

    trusted_proxies: tuple[str, ...] = Field((), description="Addresses or networks of proxies that are believed what they tell of a "
                                                             "request (`X-Forwarded-…`, `Forwarded`): `127.0.0.1`, `10.0.0.0/8`, or "
                                                             "`unix` for sockets without an address. Others are not.")
    cors_origins: tuple[str, ...] = Field((), description="Origins whose pages may use Carboy with a token, such as "
                                                          "`https://app.example`; `*` is all. Cookies never count there.")
    rate_limit: str = Field("", description="How often one principal, or without one an address, may ask: such as `600/minute`, or several "
                                            "with `;` between them. Empty is no limit.")
    login_rate_limit: str = Field("20/minute", description="How many tokens and passwords of one address may be wrong; empty is no limit.")
    rate_limit_storage: str = Field("", repr=False, description="Where requests are counted: empty is a file in the data folder that the "
                                                                "processes of this machine share; `redis://…` serves several, "
                                                                "and wants the package `redis`.")

    send_104: Literal["auto", "on", "off"] = Field("auto", description="Interim answers (104) to resumable uploads: `auto` sends them "
                                                                       "to clients that came through no proxy, `on` through proxies too.")
    accel: Literal["", "x-accel-redirect", "x-sendfile"] = Field("", description="Hand downloads to the proxy in front.")
    accel_prefix: str = Field("/_carboy/", description="The internal location X-Accel-Redirect points into.")
    classic: str = Field("main", description="The space of the classic endpoints, or `off`.")
    classic_s3: str = Field("", description="The space of the classic `/upload-s3`, whose storage is in S3; empty is the first "
                                            "such space.")
    direct_expiry: float = Field(3600.0, ge=1, le=7 * 86400, description="How long an address is good that a client may send a file, or a "
                                                                         "part of one, to in S3; a request that began in time may take "
                                                                         "longer.")
    spaces: dict[str, SpaceSettings] = Field(default_factory=lambda: {"main": SpaceSettings()},
                                             description="The spaces by name; `main` is always there.")
    storages: dict[str, S3StorageSettings] = Field(default_factory=dict,
                                                   description="Storages by name, besides `local`, which is always there.")
    admin_token: str = Field("", repr=False, description="The first token, of at least 32 characters; empty makes one at the first start.")
    log_format: Literal["text", "json"] = Field("text", description="How log lines look.")
    access_log: bool = Field(False, description="Log one line for each request.")

    @field_validator("spaces")
    @classmethod
    def _space_names(cls, spaces: dict[str, SpaceSettings]) -> dict[str, SpaceSettings]:
        for name in spaces:
            if not SPACE_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a space's name: lower-case letters, digits, _ and -, at most 63")
        return {"main": SpaceSettings(), **spaces}

    @field_validator("storages")
    @classmethod
    def _storage_names(cls, storages: dict[str, S3StorageSettings]) -> dict[str, S3StorageSettings]:
        for name in storages:
            if name == "local" or not SPACE_NAME.fullmatch(name):
                raise ValueError(f"{name!r} can't be a storage's name: lower-case letters, digits, _ and -, at most 63, and not `local`")
        return storages

    @field_validator("webhooks")
    @classmethod
    def _webhook_names(cls, webhooks: dict[str, WebhookSettings]) -> dict[str, WebhookSettings]:
        for name in webhooks:
            if not SPACE_NAME.fullmatch(name):
                raise ValueError(f"{name!r} can't be a webhook's name: lower-case letters, digits, _ and -, at most 63")
        return webhooks

    @field_validator("admin_token", "secret_key")
    @classmethod
    def _long_token(cls, token: str) -> str:
        if token and len(token) < 32:
            raise ValueError("must have at least 32 characters")
        return token

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                if network != "unix":
                    ip_network(network, strict=False)
            except ValueError:
                raise ValueError(f"{network!r} is neither an address nor a network; write such as 127.0.0.1 or 10.0.0.0/8") from None
        return networks

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s,]+", origin):
                raise ValueError(f"{origin!r} is no origin; write such as https://app.example, without a path, or *")
        return tuple(origin if origin == "*" else origin.lower() for origin in origins)

    @model_validator(mode="after")
    def _s3_of_classic(self) -> Self:
        space = self.spaces.get(self.classic_s3)
        if self.classic_s3 and (space is None or space.storage not in self.storages):
            raise ValueError(f"classic_s3: {self.classic_s3!r} is no space whose storage is in S3")
        return self

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together: set both for HTTPS, or neither")
        return self

    @classmethod
    def settings_customise_sources(cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
                                   env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
                                   file_secret_settings: PydanticBaseSettingsSource) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(toml: Path | None = None, **flags: Any) -> Settings:
    """Settings from flags, environment and ``toml`` (default: ``carboy.toml`` here, if it is there).

    Raises ConfigError that names the setting and says what would be right.
    """
    if toml is not None and not toml.is_file():
        raise ConfigError(f"there is no file {str(toml)!r}", file=str(toml))
    source = type("Settings", (Settings,), {"model_config": {**Settings.model_config, "toml_file": toml}}) if toml else Settings
    return _made(source, {name: value for name, value in flags.items() if value is not None}, str(toml or "carboy.toml"))


class ApplicationSettings(Settings):
    """The settings of Carboy in an application: neither environment nor ``carboy.toml`` counts."""

    model_config = SettingsConfigDict(toml_file=None)

    @classmethod
    def settings_customise_sources(cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
                                   env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
                                   file_secret_settings: PydanticBaseSettingsSource) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def of_application(values: Mapping[str, Any]) -> Settings:
    """Settings from these values alone, by the names of the fields. Raises ConfigError."""
    return _made(ApplicationSettings, values, "the application's configuration")


def _made(source: type[Settings], values: Mapping[str, Any], file: str) -> Settings:
    try:
        return source(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        wrong = "there is no such setting" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{name}: {wrong}" if name else wrong, setting=name) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    except SettingsError as error:
        raise ConfigError(f"{error}: a variable holds no JSON where JSON is due") from None
