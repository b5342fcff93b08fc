"""What is counted, by name, in Prometheus' conventions. Labels are bounded: by the code, or by what the settings name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """What is counted under one name. Labels have few values: never a path or an id. A histogram has ``buckets``, their upper bounds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def cells(self) -> int:
        """How many numbers one of its series is: a histogram's sum, and how many fell into each bucket and above the last."""
        return 2 + len(self.buckets) if self.buckets else 1


_QUICK = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_USUAL = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_LONG = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)

REQUESTS = Metric("carboy_requests", "counter", "Requests that were answered.", ("route", "method", "status"))
REQUEST_SECONDS = Metric("carboy_request_duration_seconds", "histogram", "From a request's whole head until its answer began.",
                         ("route",), _USUAL)
SENT = Metric("carboy_sent_bytes", "counter", "Bytes of answers' bodies.", ("route",))
RECEIVED = Metric("carboy_received_bytes", "counter", "Bytes of bodies that were received for uploads.", ("protocol",))
BODIES = Metric("carboy_bodies", "counter", "Requests that brought bytes of an upload, by how that went.", ("protocol", "outcome"))
UPLOADS = Metric("carboy_uploads", "counter", "Uploads by how they ended; complete ones are files.", ("protocol", "outcome"))
UPLOAD_SECONDS = Metric("carboy_upload_duration_seconds", "histogram", "From the head of a request that brought bytes until "
                        "all of them were on stable storage and in the catalog.", ("protocol",), _LONG)
BODIES_NOW = Metric("carboy_bodies_in_progress", "gauge", "Bodies on their way to the server.")
BODY_SLOTS = Metric("carboy_body_slots", "gauge", "The most bodies there may be at once.")
REQUESTS_NOW = Metric("carboy_requests_in_progress", "gauge", "Requests being answered; each has a thread.")
THREADS = Metric("carboy_request_threads", "gauge", "The most threads there may be for requests.")
EVENT_STREAMS = Metric("carboy_event_streams", "gauge", "Clients that are told what happens while it happens.")
SYNC_SECONDS = Metric("carboy_storage_sync_duration_seconds", "histogram", "Syncs of contents (file) and names (folder) to stable storage.",
                      ("storage", "kind"), _QUICK)
STORAGE_ERRORS = Metric("carboy_storage_errors", "counter", "What a storage failed with, by the code of the error.", ("storage", "kind"))
S3_SECONDS = Metric("carboy_s3_request_duration_seconds", "histogram", "Calls to an S3 server, with what was tried again.",
                    ("storage", "operation"), _USUAL)
COMMIT_SECONDS = Metric("carboy_catalog_commit_duration_seconds", "histogram", "Commits of the catalog.", (), _QUICK)
JOB_ATTEMPTS = Metric("carboy_job_attempts", "counter", "Attempts at jobs, by what came of them.", ("step", "outcome"))
JOB_SECONDS = Metric("carboy_job_duration_seconds", "histogram", "Attempts at jobs.", ("step",), _LONG)
SWEEPS = Metric("carboy_sweeps", "counter", "Rounds of the sweeper.")
SWEPT = Metric("carboy_swept", "counter", "What the sweeper did, in items.", ("what",))

BUILD = Metric("carboy_build_info", "gauge", "The version of Carboy, and of Python.", ("version", "python"))
CATALOG_UP = Metric("carboy_catalog_up", "gauge", "Whether the catalog answers. Where it doesn't, what only it knows is left out.")
FILES = Metric("carboy_files", "gauge", "Files at their paths.", ("space",))
FILE_BYTES = Metric("carboy_file_bytes", "gauge", "Bytes that quotas count: of current contents, older versions, and the trash.",
                    ("space", "kind"))
BLOBS = Metric("carboy_blobs", "gauge", "Contents that are stored, once each.", ("storage",))
BLOB_BYTES = Metric("carboy_blob_bytes", "gauge", "Bytes of contents that are stored.", ("storage",))
BLOBS_APART = Metric("carboy_blobs_set_apart", "gauge", "Contents that are damaged, quarantined, or held until their steps are through.",
                     ("storage", "why"))
ROOM = Metric("carboy_storage_room_bytes", "gauge", "Bytes that a storage still has room for, without what is kept free.", ("storage",))
OPEN_UPLOADS = Metric("carboy_open_uploads", "gauge", "Uploads that take bytes.", ("protocol",))
JOBS = Metric("carboy_jobs", "gauge", "Jobs of which something can still come.", ("step", "state"))
QUEUE_AGE = Metric("carboy_job_queue_age_seconds", "gauge", "For how long the oldest job has been due that nobody has begun.",
                   ("queue", "step"))
DELIVERIES = Metric("carboy_webhook_deliveries", "gauge", "What webhooks are told, by how far it is.", ("hook", "state"))
HOOK_AGE = Metric("carboy_webhook_queue_age_seconds", "gauge", "For how long the oldest delivery has been as it is that isn't through.",
                  ("hook",))
PROCESSES = Metric("carboy_processes", "gauge", "Processes that live.", ("role",))
PROCESS_CPU = Metric("carboy_process_cpu_seconds", "counter", "Processor time of a process.", ("process", "role"))
PROCESS_MEMORY = Metric("carboy_process_resident_memory_bytes", "gauge", "Memory of a process, with what it shares with others.",
                        ("process", "role"))
PROCESS_FILES = Metric("carboy_process_open_fds", "gauge", "Open files of a process.", ("process", "role"))
PROCESS_THREADS = Metric("carboy_process_threads", "gauge", "Threads of a process.", ("process", "role"))
PROCESS_START = Metric("carboy_process_start_time_seconds", "gauge", "When a process began, since 1970.", ("process", "role"))

READ_OFF: Sequence[Metric] = (
    BUILD, CATALOG_UP, FILES, FILE_BYTES, BLOBS, BLOB_BYTES, BLOBS_APART, ROOM, OPEN_UPLOADS, JOBS, QUEUE_AGE, DELIVERIES, HOOK_AGE,
    PROCESSES, PROCESS_CPU, PROCESS_MEMORY, PROCESS_FILES, PROCESS_THREADS, PROCESS_START)
"""What nobody counts: it is looked up when somebody asks."""

METRICS: Mapping[str, Metric] = {one.name: one for one in (
    REQUESTS, REQUEST_SECONDS, SENT, RECEIVED, BODIES, UPLOADS, UPLOAD_SECONDS, BODIES_NOW, BODY_SLOTS, REQUESTS_NOW, THREADS,
    EVENT_STREAMS, SYNC_SECONDS, STORAGE_ERRORS, S3_SECONDS, COMMIT_SECONDS, JOB_ATTEMPTS, JOB_SECONDS, SWEEPS, SWEPT)}
"""All that is counted, by name. Counters are shown with ``_total`` behind it."""
