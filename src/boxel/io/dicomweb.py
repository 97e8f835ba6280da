"""DICOMweb: the addresses of studies in a PACS, and what is asked of the server (QIDO-RS, WADO-RS, STOW-RS)."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["SCHEMES", "Address", "Server"]

SCHEMES = {"dicomweb": "http", "dicomwebs": "https"}
UID = r"[0-9]+(?:\.[0-9]+)*"
USER, PASSWORD, TOKEN = "BOXEL_DICOMWEB_USER", "BOXEL_DICOMWEB_PASSWORD", "BOXEL_DICOMWEB_TOKEN"
TIMES = (10, 120)  # seconds to connect, and without an answer


class Address(NamedTuple):
    """Where a study or a series is.

    Attributes:
        server: the URL of the service, without user and password.
        study, series: their UIDs; no series is every one with images.
        login: user and password of the address, if it has them. They are never shown.
    """

    server: str
    study: str
    series: str = ""
    login: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.server}/studies/{self.study}" + (f"/series/{self.series}" if self.series else "")

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address in `dicomweb://HOST:PORT/PATH/studies/UID[/series/UID]`, or with `dicomwebs://` for https.

        Raises:
            ValueError: it is none.
        """
        try:
            parts = urlsplit(text)
            place = re.fullmatch(rf"(.*)/studies/({UID})(?:/series/({UID}))?/?", parts.path)
            host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
        except ValueError:  # such as a port that is no number
            place = None
        if not place or not host:
            raise ValueError(
                f"{_without_login(text)}: is no address of a study; write dicomweb://HOST:PORT/PATH/studies/UID, with "
                "/series/UID for one series, or dicomwebs:// for https"
            )
        login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        host = f"[{host}]" if ":" in host else host
        return cls(f"{SCHEMES[parts.scheme]}://{host}{port}{place[1]}", place[2], place[3] or "", login)


class Server:
    """The DICOMweb service of an address.

    The user is that of the address, or else of the environment (`BOXEL_DICOMWEB_USER` and `BOXEL_DICOMWEB_PASSWORD`, or
    `BOXEL_DICOMWEB_TOKEN`), or else of the netrc file. Certificates are checked; `REQUESTS_CA_BUNDLE` names others.

    Raises:
        ValueError: the libraries are not installed.
    """

    def __init__(self, address: Address) -> None:
        try:
            import requests
            from dicomweb_client.web import DICOMwebClient
            from urllib3.util import Retry
        except ImportError:
            raise ValueError("dicomweb:// needs the libraries of pip install 'boxel[dicom]'") from None
        self.address, session, env = address, requests.Session(), os.environ
        login = address.login or ((env[USER], env.get(PASSWORD, "")) if env.get(USER) else None)
        if login:
            session.auth = login
        elif env.get(TOKEN):
            session.auth = _bearer(env[TOKEN])
        self._client = DICOMwebClient(address.server, session, timeout=TIMES)
        self._client.set_http_retry_params(False)  # which would retry whatever goes wrong
        busy = (429, 502, 503, 504)
        retry = Retry(3, connect=0, other=0, backoff_factor=0.5, status_forcelist=busy, raise_on_status=False)
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))

    def series(self) -> dict[str, str]:
        """The modality of each series of the study, or of the one series, by its UID.

        Raises:
            ValueError: there is no such study or series, or the server does not answer as it should.
        """
        study, wanted = self.address.study, self.address.series
        with self._asking("searched"):
            found = self._client.search_for_series(
                study, search_filters={"SeriesInstanceUID": wanted} if wanted else None, fields=["Modality"]
            )
        every = {_value(one, "0020000E"): _value(one, "00080060") for one in found}
        modalities = {uid: kind for uid, kind in every.items() if re.fullmatch(UID, uid) and wanted in ("", uid)}
        if not modalities:
            kind = "series" if wanted else "study"
            raise ValueError(f"{self.address}: the server has no such {kind}; check the UID, and that you may see it")
        return modalities

    def instances(self, series: str) -> list[str]:
        """The UIDs of the instances of a series."""
        known: dict[str, None] = {}
        while True:
            with self._asking("searched"):
                page = self._client.search_for_instances(self.address.study, series, offset=len(known))
            new = [uid for one in page if re.fullmatch(UID, uid := _value(one, "00080018")) and uid not in known]
            known |= dict.fromkeys(new)
            if not new:  # a server that knows no pages sends all of them again
                return list(known)

    def instance(self, series: str, uid: str) -> "Dataset":
        """An instance, as it is stored."""
        with self._asking("read"):
            return self._client.retrieve_instance(self.address.study, series, uid)

    def store(self, file: Path) -> None:
        """Store the object in a file, which belongs to the study.

        Raises:
            ValueError: the server does not store it, or does not answer as it should.
        """
        import pydicom

        instance = pydicom.dcmread(file)
        with self._asking("written to"):
            answer = self._client.store_instances([instance], self.address.study)
        if failed := answer.get("FailedSOPSequence"):
            reason = f"0x{int(failed[0].get('FailureReason', 0)):04X}"
            raise ValueError(
                f"{file}: {self.address.server} did not store it (failure reason {reason}); see the log of the server"
            )

    @contextmanager
    def _asking(self, done: str) -> Iterator[None]:
        """Turn whatever goes wrong with the server into one message."""
        import requests

        server = self.address.server
        try:
            yield
        except requests.exceptions.SSLError as error:
            advice = "name the file of the certificates to trust in REQUESTS_CA_BUNDLE, or use dicomweb:// for http"
            raise ValueError(f"{server}: cannot be trusted ({_reason(error)}); {advice}") from None
        except requests.HTTPError as error:
            answer = error.response
            status = f"status {answer.status_code} {answer.reason}" if answer is not None else "no status"
            if answer is not None and answer.status_code in (401, 403):
                advice = f"set {USER} and {PASSWORD}, or {TOKEN}, of a user who may"
                raise ValueError(f"{server}: may not be {done} by this user ({status}); {advice}") from None
            what = f"cannot be {done} ({status})"
            raise ValueError(f"{self.address}: {what}; check the address, and the log of the server") from None
        except (requests.ConnectionError, requests.Timeout) as error:
            advice = "check host, port and network, and rerun the command"
            raise ValueError(f"{server}: no server answers ({_reason(error)}); {advice}") from None
        except (requests.RequestException, ValueError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{server}: is no DICOMweb server ({_reason(error)}); check the path, which often ends in /dicom-web"
            ) from None


def _value(record: Any, tag: str) -> str:
    """The first value of an attribute in DICOM JSON, as text; empty if there is none."""
    return str(next(iter(record.get(tag, {}).get("Value", ())), ""))


def _bearer(token: str) -> Any:
    from requests.auth import AuthBase

    class Bearer(AuthBase):
        def __call__(self, request: Any) -> Any:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

    return Bearer()


def _reason(error: Exception) -> str:
    """What the system said, which is the innermost reason of an error; short and in one line."""
    inner: BaseException | None = error
    while (inner := inner.__context__ if inner else None) is not None:
        error = inner if isinstance(inner, OSError) else error
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else f"{text[:117]}..."


def _without_login(text: str) -> str:
    return re.sub(r"//[^/]*@", "//", text)
