"""The PACS Orthanc, where it is installed, on this machine alone."""

import base64
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
needs_orthanc = pytest.mark.skipif(
    not (shutil.which("Orthanc", path="/usr/sbin:/usr/bin") and PLUGIN.exists()),
    reason="Debian's orthanc and orthanc-dicomweb are not installed",
)


@contextmanager
def orthanc(folder):
    """Host and port of an empty PACS that runs while this is entered; its service is at `/dicom-web`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": port,
        "DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("w") as log:
        program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
        server = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
        try:
            _wait_for(server, folder / "orthanc.log")
            yield f"localhost:{port}"
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(server, log):
    end = time.monotonic() + 30
    while "Orthanc has started" not in log.read_text(errors="replace"):
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(log.read_text(errors="replace"))
        time.sleep(0.05)


def found(server, study):
    """The modality of each object of a study that the PACS finds, by its UID, by QIDO-RS."""
    answer = requests.get(f"http://{server}/dicom-web/studies/{study}/instances", timeout=30)
    answer.raise_for_status()
    return {one["00080018"]["Value"][0]: one["00080060"]["Value"][0] for one in answer.json()}


def stored(server, uid):
    """The file of an object as the PACS has it."""
    [place] = requests.post(f"http://{server}/tools/lookup", uid, timeout=30).json()
    return requests.get(f"http://{server}{place['Path']}/file", timeout=30).content


@contextmanager
def gateway(server, *, login="", certificate=None, status=None, answer=b""):
    """Host and port of a gateway to the PACS, as hospitals have them.

    Args:
        server: the PACS.
        login: `user:password` that it demands.
        certificate: file with certificate and key, for https.
        status: what it answers to GET and to POST instead of asking the PACS, if not 0.
        answer: with these bytes.
    """

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer("GET")

        def do_POST(self):
            self.answer("POST")

        def answer(self, method):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            wanted = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None
            if login and self.headers.get("Authorization") != wanted:
                reply, kind, code = b"", "text/plain", 401
            elif code := (status or {}).get(method, 0):
                reply, kind = answer, "application/dicom+json"
            else:
                headers = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
                given = requests.request(method, f"http://{server}{self.path}", data=body, headers=headers, timeout=30)
                reply, kind, code = given.content, given.headers.get("Content-Type", ""), given.status_code
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    service = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        service.socket = context.wrap_socket(service.socket, server_side=True)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    try:
        yield f"localhost:{service.server_port}"
    finally:
        service.shutdown()
        service.server_close()
