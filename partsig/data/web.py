"""Folders of web servers, read with ``requests``: nothing is believed that the server only says.

A server that is asked is the only one that is asked: who sends us to another, or from https to
http, is not followed. What comes is cut off where it is more than was announced.
"""

import re
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from typing import BinaryIO
from urllib.parse import quote, unquote, urljoin, urlsplit

import requests
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from partsig import __version__
from partsig.data.addresses import shown
from partsig.data.pace import PacedAdapter
from partsig.errors import DataError

CHUNK = 1 << 17  # bytes
TIMEOUT_S = (10.0, 60.0)  # to connect; between two bytes
MOST_REDIRECTS = 5
# A page that lists a folder of 100,000 files has some 20 MB.
PAGE_BYTES = 2**25
# Folders in folders, all folders, all files: what has more has no end, or is none of recordings.
DEEPEST, MOST_FOLDERS, MOST_FILES = 16, 100_000, 1_000_000
ASKED_AT_ONCE = 8  # sizes; more would be impolite to a public server
NO_HEAD = {405, 501}
# Files whose size a server does not tell since it fails; where there are more, it fails altogether.
MOST_UNASKED = 20
# Bytes of a part that an archive asks for at once: the list of 500,000 members.
MOST_PART = 2**26
# Bounded, so that no page takes longer than it is long.
LINK = re.compile(
    r"""<a\s[^<>]{0,1000}?\bhref\s{0,9}=\s{0,9}"""
    r"""(?:"([^"<>]{0,4000})"|'([^'<>]{0,4000})'|([^\s"'<>]{1,4000}))""",
    re.IGNORECASE,
)
DEFAULT_PORTS = {"http": 80, "https": 443}


class TooMuchError(DataError):
    """More came than was announced, or is announced than can be right."""


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing: redirects are looked at by :func:`ask`, their bodies never read."""


def session() -> requests.Session:
    """Return a session (for one thread) that says who asks, and asks for the bytes as they are."""
    new = _Session()
    for scheme in ("https://", "http://"):
        new.mount(scheme, PacedAdapter())
    new.headers.update({"User-Agent": f"partsig/{__version__}", "Accept-Encoding": "identity"})
    return new


@contextmanager
def ask(
    session: requests.Session, method: str, url: str, headers: dict[str, str] | None = None
) -> Iterator[requests.Response]:
    """Give the answer of the server that ``url`` names, its body unread.

    Raises DataError where it sends to another one, or from https to http, and what requests raises.
    """
    first, url = url, url.partition("#")[0]
    for _ in range(MOST_REDIRECTS + 1):
        with session.request(
            method, url, headers=headers, stream=True, timeout=TIMEOUT_S, allow_redirects=False
        ) as answer:
            if not answer.is_redirect:
                yield answer
                return
            location = answer.headers["Location"]
        target = _target(url, location)
        if target is None:
            raise DataError(
                f"{shown(first)}: the server sends to {shown(location)[:200]!r}, which is not "
                "followed; pass that address itself if it is right."
            )
        url = target
    raise DataError(f"{shown(first)}: the server sends in circles.")


def _target(url: str, location: str) -> str | None:
    """Return the address that a server sends to; None where that is not its own."""
    try:
        here, there = urlsplit(url), urlsplit(urljoin(url, location))
        ports = [part.port or DEFAULT_PORTS.get(part.scheme) for part in (here, there)]
    except ValueError:
        return None
    own = (here.hostname, here.scheme, ports[0]) == (there.hostname, there.scheme, ports[1])
    safer = (here.scheme, there.scheme, *ports) == ("http", "https", 80, 443)
    if not own and not (safer and here.hostname == there.hostname):
        return None
    # Who asks is told to the same server again, and only as the user said it.
    login, at, _ = here.netloc.rpartition("@")
    place = there.netloc.rpartition("@")[2]
    return there._replace(netloc=login + at + place).geturl()


def length_of(answer: requests.Response) -> int | None:
    """Return how many bytes an answer says that it has, or None."""
    told = answer.headers.get("Content-Length", "")
    return int(told) if re.fullmatch(r"[0-9]{1,18}", told) else None


def pieces(answer: requests.Response, limit: int) -> Iterator[bytes]:
    """Yield the body of an answer; raise TooMuchError where it has more than ``limit`` bytes.

    What announces more is not read at all.
    """
    announced = length_of(answer)
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise DataError(f"{shown(answer.url)}: the server sends it compressed, unasked.")
    if announced is not None and announced > limit:
        raise TooMuchError(
            f"{shown(answer.url)}: the server announces {announced:,} bytes, and there should "
            f"be {limit:,} at most."
        )
    came = 0
    for piece in answer.iter_content(CHUNK):
        came += len(piece)
        if came > limit:
            raise TooMuchError(
                f"{shown(answer.url)}: the server sends more than the {limit:,} bytes that there "
                "should be; it was cut off."
            )
        yield piece


def links_of(page: str, url: str) -> list[str]:
    """Return what a page that lists a folder names in it: paths from there, folders with ``/``.

    Addresses of elsewhere, of the folders above and of the same page in another order are no names.
    What else a link says is returned as it is, also where it climbs: who makes files of it looks.

    >>> page = '<a href="../">up</a><a href="?C=N">name</a><a href="tr%2003.hea">tr 03.hea</a>'
    >>> links_of(page + '<a href="https://elsewhere/x">x</a>', "https://host/nights/")
    ['tr 03.hea']
    """
    here = urlsplit(url)
    names: dict[str, None] = {}
    for match in LINK.finditer(page):
        link = unescape(next(filter(None, match.groups()), ""))
        try:
            there = urlsplit(link.strip())
        except ValueError:
            continue
        name = unquote(there.path)
        if there.scheme or there.netloc or name.startswith("/"):
            whole = urlsplit(urljoin(url, link.strip()))
            start = unquote(here.path)
            name = unquote(whole.path)
            if whole[:2] != here[:2] or not name.startswith(start):
                continue
            name = name.removeprefix(start)
        name = re.sub(r"^(\./)+", "", name)
        climbs = ".." in name.split("/")
        if there.query or there.fragment or name in ("", ".", "..") or (climbs and name[-1] == "/"):
            continue
        names[name] = None
    return list(names)


class Web(AbstractFileSystem):
    """The folder at an ``http(s)://`` address and what is below it, for fsspec's interface.

    Paths are from there, and as they read, not as an address writes them; "" is what the address
    itself names. A password or a signature of the address is told with every question. Sizes and
    ETags are asked of every file.
    """

    protocol = ("http", "https")
    cachable = False

    def __init__(self, url: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        self._place = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._query = parts.query
        self._own = threading.local()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    @property
    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = session()
        return self._own.session

    def _url(self, path: str) -> str:
        inner = "/" + quote(path.lstrip("/"), safe="/~!$&'()*+,;=:@") if path else ""
        return self._place + inner + (f"?{self._query}" if self._query else "")

    def find(self, path: str, detail: bool = False, **_: object) -> dict[str, dict] | list[str]:
        """Return what is below it, as its pages list it; ``path`` is ""; sizes in detail only."""
        names: dict[str, None] = {}
        folders = deque([("", 0)])
        seen = {""}
        while folders:
            folder, depth = folders.popleft()
            for link in self._links(path + folder):
                name = folder + link
                if not link.endswith("/"):
                    names[name] = None
                elif name not in seen:
                    seen.add(name)
                    folders.append((name, depth + 1))
            if depth > DEEPEST or len(seen) > MOST_FOLDERS or len(names) > MOST_FILES:
                raise DataError(
                    f"{shown(self._url(path))} has folders within folders, or more folders or "
                    "files than can be recordings: name one of the folders in it."
                )
        paths = [path + name for name in names]
        if not detail:
            return paths
        unasked: list[str] = []

        def about(name: str) -> dict[str, object]:
            try:
                return self.info(name)
            except (DataError, requests.RequestException):  # told where it is fetched
                unasked.append(name)
                if len(unasked) > MOST_UNASKED:
                    raise
                return {"name": name, "size": None, "type": "file", "ETag": None}

        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            return dict(zip(paths, pool.map(about, paths), strict=True))

    def _links(self, path: str) -> list[str]:
        with ask(self._session, "GET", self._url(path or "/")) as answer:
            answer.raise_for_status()
            page = b"".join(pieces(answer, PAGE_BYTES))
            final = urlsplit(answer.url)
        # A page of a folder, perhaps at an address without its slash; links name no password.
        here = final._replace(netloc=final.netloc.rpartition("@")[2], query="")
        here = here._replace(path=here.path.rstrip("/") + "/")
        return links_of(page.decode("utf-8", errors="replace"), here.geturl())

    def info(self, path: str, **_: object) -> dict[str, object]:
        """Return size (None: the server does not say) and ETag of a file."""
        size = etag = None
        for method in ("HEAD", "GET"):
            with ask(self._session, method, self._url(path)) as answer:
                if answer.ok:
                    size, etag = length_of(answer), answer.headers.get("ETag")
                if method == "GET" or answer.status_code not in NO_HEAD:
                    break
        return {"name": path, "size": size, "type": "file", "ETag": etag}

    def isdir(self, path: str) -> bool:
        """Whether it is a folder; only files are asked for."""
        return path.endswith("/")

    def get_file(
        self, rpath: str, lpath: str, callback: Callback = DEFAULT_CALLBACK, **_: object
    ) -> None:
        """Fetch a file; ``callback`` is told of each piece before it is written, and may raise."""
        with ask(self._session, "GET", self._url(rpath)) as answer:
            answer.raise_for_status()
            callback.set_size(length_of(answer))
            with open(lpath, "wb") as handle:
                for piece in pieces(answer, getattr(callback, "limit", PAGE_BYTES)):
                    callback.relative_update(len(piece))
                    handle.write(piece)

    def read_part(self, path: str, start: int, end: int) -> bytes:
        """Return some bytes of a file; raises DataError where the server sends others.

        So it does for a part that is larger than any that is needed: lengths in an archive, and its
        own, are its server's to say.
        """
        if not 0 <= end - start <= MOST_PART:
            raise TooMuchError(
                f"{shown(self._url(path))}: {end - start:,} bytes of it would be needed at once, "
                f"more than of any archive ({MOST_PART:,}); it is damaged."
            )
        asked = {"Range": f"bytes={start}-{end - 1}"}
        with ask(self._session, "GET", self._url(path), asked) as answer:
            answer.raise_for_status()
            begins = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if answer.status_code != 206 or not begins:
                raise DataError(f"{shown(self._url(path))}: the server does not send parts of it.")
            return b"".join(pieces(answer, end - start))

    def _open(self, path: str, mode: str = "rb", **_: object) -> BinaryIO:
        if mode != "rb":
            raise OSError("folders of web servers can only be read")
        return _Parts(self, path)


class _Parts(AbstractBufferedFile):
    """A file of a web server that is read in parts: of an archive, only what is needed."""

    def __init__(self, web: Web, path: str) -> None:
        size = web.info(path)["size"]
        if size is None:
            raise DataError(f"{shown(web._url(path))}: the server does not say how large it is.")
        super().__init__(web, path, size=size)

    def read(self, length: int = -1) -> bytes:
        """Return so many bytes from here; what names a size that no part has is refused."""
        left = self.size - self.loc
        if (left if length is None or length < 0 else min(length, left)) > MOST_PART:
            self.fs.read_part(self.path, self.loc, self.loc + left)  # says why
        return super().read(length)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.read_part(self.path, start, end)
