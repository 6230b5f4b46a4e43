"""What of an address is shown, which are followed, and what copies are called."""

import time

import pytest

from partsig.data import addresses
from partsig.errors import ConfigError, DataError

SECRET = "S3cr3tW0rd"
WITH_SECRETS = [
    f"https://me:{SECRET}@host/nights",
    f"https://{SECRET}@host/nights",
    f"https://me:{SECRET}/x@host/nights",
    f"https://me:{SECRET}?x@host/nights",
    f"https://host/nights/?X-Amz-Credential=k&X-Amz-Signature={SECRET}",
    f"https://host/nights?token={SECRET}",
    f"https://host:8443/nights?mail=a@b&token={SECRET}",
    f"https://account.blob.host/nights?sv=2024&sig={SECRET}&se=2030",
    f"https://host/nights#access_token={SECRET}",
    f"https://host/nights;jsessionid={SECRET}",
    f"http://[::1]:8080/nights?token={SECRET}",
    f"zip://inner::https://me:{SECRET}@host/nights.zip",
    f"zip://inner::https://host/nights.zip?sig={SECRET}",
    f"s3://key:{SECRET}@nights",
    f"sftp://me:{SECRET}@host:22/nights",
]


@pytest.mark.parametrize("url", WITH_SECRETS)
def test_no_secret_is_shown(url):
    shown = addresses.shown(url)
    assert SECRET not in shown
    assert "nights" in shown
    assert SECRET not in addresses.name_of(url)
    text = f"HTTPError: 401 for url: {url} (asked /nights?token={SECRET}, {SECRET}%3D; me)"
    assert SECRET not in addresses.without_secrets(text, url)
    assert "HTTPError: 401" in addresses.without_secrets(text, url)
    assert SECRET not in addresses.without_secrets(f"no store at {url.replace('://', ':/')} here")


def test_sentences_keep_their_stops():
    text = "https://host/a?x=1; no (https://host/b). What of s3://a, and of s3://b/c: nothing."
    clean = "https://host/a?…; no (https://host/b). What of s3://a, and of s3://b/c: nothing."
    assert addresses.without_secrets(text) == clean
    assert addresses.without_secrets(clean) == clean


@pytest.mark.parametrize("url", ["s3://bucket/a b@c", "https://host:80/a@b", "file:///home/a"])
def test_what_is_no_secret_is_shown(url):
    assert addresses.shown(url) == url


def test_two_addresses_never_share_a_copy():
    urls = ["s3://a/nights", "s3://b/nights", "s3://a/b/nights", "gs://a/nights", "s3://A/nights"]
    urls += ["https://a/nights", "http://a/nights", "https://a:444/nights", "https://a/nights?x=1"]
    urls += ["https://a/nights?x=2", "https://me:one@a/nights", "https://me:two@a/nights"]
    urls += ["zip://nights::s3://a/1.zip", "zip://nights::s3://a/2.zip", "s3://a/night s"]
    names = [addresses.name_of(url) for url in urls]
    assert len(set(names)) == len(urls)
    assert addresses.name_of("s3://a/nights/") == names[0]


@pytest.mark.parametrize(
    "url", ["s3://..", "s3://a/..", "s3://", "zip://::/", "s3://a/" + "n" * 300]
)
def test_the_name_of_a_copy_is_a_plain_one(url):
    name = addresses.name_of(url)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert not name.startswith((".", "-"))
    assert 20 < len(name) < 90


@pytest.mark.parametrize(
    "url",
    [
        "http://host/a",
        "HTTP://host/a",
        "http://127.0.0.1:80/a",
        "http://localhost/a",
        "ftp://host/a",
        "zip://a::http://host/a.zip",
        "simplecache::http://host/a",
    ],
)
def test_what_is_not_encrypted_is_allowed_by_name(url):
    with pytest.raises(ConfigError, match="pass --allow-http"):
        addresses.check(url, "--store", False)
    addresses.check(url, "--store", True)


@pytest.mark.parametrize("url", ["https://host/a", "s3://bucket/a", "zip://::/a/http.zip"])
def test_what_is_encrypted_or_here_needs_no_word(url):
    addresses.check(url, "--store", False)


@pytest.mark.parametrize("url", ["reference://a.json", "reference::s3://a/b.json", "s3://a\nb"])
def test_what_leads_on_by_a_file_is_never_followed(url):
    with pytest.raises(ConfigError):
        addresses.check(url, "--store", True)


@pytest.mark.parametrize(
    "found",
    [
        "http://h/a",
        "https:/h/a",
        "S3://b/a",
        "zip::a.zip",
        "//host/share",
        "\\\\host\\share",
        "file:///a",
    ],
)
def test_a_file_names_no_other_machine(found):
    with pytest.raises(DataError, match="addresses that stand in a file are not followed: pass"):
        addresses.refuse_recorded(found, "the run")


@pytest.mark.parametrize("found", ["data/store/a", "/home/me/a", "C:/data/a", "C:\\data\\a", "a:b"])
def test_a_file_names_a_folder(found):
    addresses.refuse_recorded(found, "the run")


@pytest.mark.parametrize(
    "text", ["a", "a:", ":", "::", "https://", "@", ":@", "?", "a:/", "/", ";"]
)
def test_no_address_takes_longer_than_it_is_long(text):
    long = text * (100_000 // len(text))
    began = time.process_time()
    for url in (long, f"https://{long}", f"https://me:{long}@host", f"https://host/?{long}"):
        addresses.shown(url)
        addresses.without_secrets(url, f"https://me:word@host/{text}")
        addresses.leads_elsewhere(url)
    assert time.process_time() - began < 5
