"""nginx: DAV PUT for uploads, sendfile for downloads. The yardstick."""

from __future__ import annotations

import os
import subprocess

from benchmarks.envs import debian_program
from benchmarks.servers.base import Server

_CONFIG = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/tmp/body;
    proxy_temp_path {folder}/tmp/proxy;
    fastcgi_temp_path {folder}/tmp/fastcgi;
    uwsgi_temp_path {folder}/tmp/uwsgi;
    scgi_temp_path {folder}/tmp/scgi;
    client_body_buffer_size 1m;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/store;
        location / {{
            dav_methods PUT;
            create_full_put_path on;
        }}
    }}
}}
"""


class Nginx(Server):
    """Debian's nginx, one worker process, logs off."""

    name = "nginx"

    @property
    def version(self) -> str:
        return subprocess.run([debian_program("nginx"), "-v"], check=True, capture_output=True, text=True).stderr.strip().split(": ")[-1]

    def command(self) -> list[str]:
        program = debian_program("nginx")
        config = self.folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=self.folder, port=self.port, user=_user()))
        return [program, "-p", str(self.folder), "-c", str(config), "-e", str(self.folder / "error.log")]


def _user() -> str:
    """As root, nginx would serve as another user, who can't write to our folder."""
    return "user root;" if os.geteuid() == 0 else ""
