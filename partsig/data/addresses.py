"""Addresses of what lies elsewhere: which are followed, what of them may be shown.

An address may hold a password (``user:word@host``) or a signature (``?X-Amz-Signature=…``): it is
asked with them, and shown, stored and named without.
"""

import hashlib
import re
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from partsig.errors import ConfigError, DataError

# Anyone on the way can read and change what these carry.
UNENCRYPTED = ("http", "ftp", "webhdfs")
# These read addresses out of a file, which somebody else may have written.
INDIRECT = ("reference", "generic")
SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,20})://", re.IGNORECASE)
# An address in a text, without the full stop after it; also one whose slashes a path has swallowed.
IN_TEXT = re.compile(r"[a-z][a-z0-9+.-]{1,20}:/{1,3}[^\s'\"<>]*[^\s'\"<>.,;:!?)]", re.IGNORECASE)
# What stands in a file where a folder is meant, and leads to another machine.
ELSEWHERE = re.compile(r"\A(?:[a-z][a-z0-9+.-]{1,20}:/|//|\\\\)|::|://", re.IGNORECASE)
# The links of a chain (``zip://a::s3://b``), but not the colons of an IPv6 address.
CHAIN = re.compile(r"::(?![0-9a-f:.%]{0,50}\])", re.IGNORECASE)
SHORTEST_SECRET = 3  # characters; less is no secret, and stands in every text
# scrypt's cost (RFC 7914): a name of a folder must not tell a password to whoever tries them all.
COST = {"n": 2**14, "r": 8, "p": 1}


def is_url(path: object) -> bool:
    """Tell whether this names a folder elsewhere.

    >>> is_url("s3://bucket/nights"), is_url("data/raw/nights")
    (True, False)
    """
    return "://" in str(path)


def leads_elsewhere(text: object) -> bool:
    """Tell whether what a file calls a folder leads to another machine.

    >>> leads_elsewhere("http:/host/a"), leads_elsewhere("zip::a.zip"), leads_elsewhere("data/a")
    (True, True, False)
    """
    return ELSEWHERE.search(str(text)) is not None


def check(url: str, option: str, allow_http: bool) -> None:
    """Raise ConfigError for an address that is not followed as it stands.

    ``option`` is where it was given; ``allow_http``: whether what is not encrypted was allowed.
    """
    if re.search(r"[\x00-\x20\x7f]", url):
        raise ConfigError(f"{option} is {shown(url)!r}; an address has no blanks.")
    schemes = {name.lower() for name in SCHEME.findall(url)}
    schemes |= {bit.lower() for bit in CHAIN.split(url)[:-1] if "/" not in bit}
    for name in sorted(schemes & set(INDIRECT)):
        raise ConfigError(
            f"{option} is {shown(url)}; {name}:// follows addresses that stand in a file, which "
            "may be anybody's: pass the folder itself."
        )
    if schemes & set(UNENCRYPTED) and not allow_http:
        raise ConfigError(
            f"{option} is {shown(url)}; anyone on the way can read and change what comes without "
            "encryption: use https://, or pass --allow-http (allow_http=True) if you trust the way."
        )


def refuse_recorded(found: object, where: object) -> None:
    """Raise DataError where a file names another machine as the place of a store.

    Whoever wrote the file would choose what is asked: only what the user names is followed.
    """
    if leads_elsewhere(found):
        raise DataError(
            f"{where} says that its store is at {shown(str(found))}; addresses that stand in a "
            "file are not followed: pass --store."
        )


def shown(url: str) -> str:
    """Return an address as it may be shown and stored: without user, password and signature.

    >>> shown("https://me:word@host/nights/?token=abc"), shown("s3://bucket/nights")
    ('https://host/nights/?…', 's3://bucket/nights')
    """
    return "::".join(_shown(bit) for bit in CHAIN.split(url))


def _shown(bit: str) -> str:
    match = re.match(r"\A([a-z][a-z0-9+.-]*:/+)(.*)", bit, re.IGNORECASE | re.DOTALL)
    if match is None:
        return bit
    scheme, rest = match.groups()
    place, mark, _ = re.match(r"([^?#;]*)([?#;]?)(.*)", rest, re.DOTALL).groups()
    before, at, after = rest.rpartition("@")
    # Also a password with a slash or a question mark in it, which an address should not have.
    if at and ("/" not in before or re.search(r":(?!\d+/)", before.partition("@")[0])):
        place, mark, _ = re.match(r"([^?#;]*)([?#;]?)(.*)", after, re.DOTALL).groups()
    return scheme + place + ("?…" if mark else "")


def below(url: str, name: str) -> str:
    """Return the address of a file below a folder's, with the folder's signature.

    >>> below("https://host/nights?token=abc", "training/a.hea")
    'https://host/nights/training/a.hea?token=abc'
    """
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment="").geturl()


def secrets(url: str) -> list[str]:
    """Return what of an address is never shown, the longest first."""
    found: set[str] = set()
    for bit in CHAIN.split(url):
        _, _, rest = bit.partition("://")
        before, at, _ = rest.rpartition("@")
        user, colon, word = before.partition(":")
        if at and (colon or "/" not in before):
            hidden = word if colon else user
            # A library may tell a part of a password that it takes for a port, say.
            found |= {before, hidden, *re.split(r"[/?#:@]", hidden)}
        signature = re.sub(r"^[^?#;]*", "", rest)
        found |= {signature[1:], *re.split(r"[?#;&]", signature)}
        found |= {pair.partition("=")[2] for pair in re.split(r"[?#;&]", signature)}
    found |= {unquote(text) for text in found}
    return sorted((text for text in found if len(text) >= SHORTEST_SECRET), key=len, reverse=True)


def without_secrets(text: object, *urls: str) -> str:
    """Return a text, a library's message say, with every address as shown and no secret of these.

    >>> without_secrets("no answer: https://me:word@host/a?sig=1 (word)", "https://me:word@host/a")
    'no answer: https://host/a?… (…)'
    """
    clean = IN_TEXT.sub(lambda match: shown(match[0]), str(text))
    for url in urls:
        for secret in secrets(url):
            clean = clean.replace(secret, "…")
    return clean


@lru_cache(maxsize=64)
def name_of(url: str) -> str:
    """Return what a copy of a remote folder is called: its last part, and a hash of all of it.

    Two addresses never have the same name, also where only a password tells them apart.

    >>> name_of("s3://bucket/a/nights/") == name_of("s3://bucket/a/nights")
    True
    """
    whole = url.rstrip("/")
    digest = hashlib.scrypt(whole.encode("utf-8", "surrogatepass"), salt=b"partsig", **COST)
    parts = re.split(r"/|::", shown(whole).replace("?…", ""))
    last = next((part for part in reversed(parts) if part.strip(":")), "copy")
    return (
        f"{re.sub(r'[^A-Za-z0-9_.-]', '-', last).lstrip('.-')[:60] or 'copy'}-{digest.hex()[:20]}"
    )
