"""A reading room: Debian's Orthanc with DICOMweb, and the OHIF viewer before it, on free loopback ports."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from tests.workflow.orthanc import Orthanc, free_port

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DICOMWEB_PLUGIN: Final = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"

_NGINX: Final = """
daemon off;
# No worker under another user, who might not be let into the folders.
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {viewer};
        # Threads of WebAssembly share memory only where the page is isolated.
        add_header Cross-Origin-Opener-Policy same-origin;
        add_header Cross-Origin-Embedder-Policy require-corp;
        location = /app-config.js {{ alias {folder}/app-config.js; }}
        location /dicom-web/ {{
            proxy_pass http://127.0.0.1:{archive}/dicom-web/;
            proxy_set_header Host $http_host;
            proxy_buffering off;
        }}
        location / {{ try_files $uri /index.html; }}
    }}
}}
"""

_VIEWER: Final = Path(__file__).with_name("app-config.js")


class ReadingRoom:
    """The archive and the viewer, running.

    Args:
        folder: for configurations and storage.
    """

    def __init__(self, folder: Path) -> None:
        self.archive = Orthanc(
            folder / "orthanc",
            further={"Plugins": [DICOMWEB_PLUGIN], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}},
        )
        self.port = free_port()
        self._folder = folder
        self._nginx: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        (self._folder / "app-config.js").write_text(_VIEWER.read_text("utf-8"), "utf-8")
        configuration = self._folder / "nginx.conf"
        configuration.write_text(
            _NGINX.format(
                folder=self._folder, port=self.port, viewer=installed_viewer(), archive=self.archive.http_port
            ),
            "utf-8",
        )
        self.archive.start()
        self._nginx = subprocess.Popen(
            ["/usr/sbin/nginx", "-c", configuration, "-p", self._folder, "-e", "stderr"]
        )
        self._wait()

    def close(self) -> None:
        if self._nginx is not None:
            self._nginx.terminate()
            self._nginx.wait()
        self.archive.stop()

    def _wait(self, patience_s: float = 60.0) -> None:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                with urlopen(f"{self.url}/dicom-web/studies", timeout=10):
                    return
            except (URLError, ConnectionError):
                assert self._nginx is not None
                assert self._nginx.poll() is None, "nginx ended"
                assert time.monotonic() < deadline, "nginx does not answer"
                time.sleep(0.1)


def installed_viewer() -> Path:
    """OHIF's built pages; fetched once, and never without the right checksum."""
    done = subprocess.run(
        [REPOSITORY / "tests" / "install-ohif.sh"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"OHIF cannot be had: {done.stderr}"
    return Path(done.stdout.strip())
