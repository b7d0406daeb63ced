"""Object stores by URL, through obstore: which store a URL is in, how it is opened, and its errors in our words.

What obstore says of an error holds the address that was asked and the server's answer, and these may hold a signature,
a session's token or a key's name. So no text of theirs is handed on: the status, the server's code for it and the kind
of failure are taken from it, and the error itself is not kept.
"""

from __future__ import annotations

import errno
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from asyncbatch._errors import ConfigError, FileChanged
from asyncbatch._types import Sample

__all__ = ["Bucket", "WholeObject", "failure", "is_object_url", "obstore", "require_options",
           "split_url"]  # fmt: skip

_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https", "memory")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(/.*)?", re.DOTALL)
# Hosts whose first folder is the bucket or container; where it is in the host's name, the host is all.
_BUCKET_IN_PATH = re.compile(
    r"s3[.-].*amazonaws\.com|.*\.r2\.cloudflarestorage\.com|.*\.(blob|dfs)\.core\.windows\.net"
)

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_KIND = re.compile(r"HttpError \{\s+kind: (\w+)")
_ADDRESS = re.compile(r"\w+://\S+")
_OS_ERROR = re.compile(r"code: (\d+)")

_TOO_FEW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_CREDENTIAL_SERVERS = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
_CLIENT = ("allow_http", "allow_invalid_certificates", "connect_timeout", "pool_idle_timeout", "proxy_url",
           "proxy_ca_certificate", "proxy_excludes", "root_certificate", "user_agent")  # fmt: skip
_VARIABLES = ("AWS_", "AZURE_", "GOOGLE_")
_SHORT = 6  # letters; a secret is longer, and "true" or a region's name had better stay legible


class WholeObject(Sample):
    """A sample that is all of an object: another length than its own means that the object was replaced."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Bucket:
    """How the store of a URL is opened.

    Attributes:
        base: The bucket's URL, without a slash at the end.
        options: What obstore's `from_url` is given besides it. May hold secrets, and shows in no `repr`.
        store: A store that is there already, used instead.
    """

    base: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    store: Any = field(default=None, repr=False)

    def open(self, *, retries: int, timeout: float | None = None) -> Any:
        """Return the store.

        Args:
            retries: Further tries that obstore makes by itself.
            timeout: Seconds a request may take; None for obstore's own 30.

        Raises:
            ConfigError: It cannot be made with these options.
            ImportError: obstore is not installed.
        """
        if self.store is not None:
            return self.store
        make = import_module("obstore.store").from_url if obstore() else None
        client: dict[str, Any] = _client_of_environment(self.base)
        if timeout is not None:
            client["timeout"] = f"{timeout:g}s"
        if str(self.options.get("endpoint", self.base)).startswith("http:"):  # it was said outright
            client["allow_http"] = True
        client |= self.options.get("client_options") or {}
        options = dict(self.options) | {"client_options": client, "retry_config": {"max_retries": retries}}
        try:
            return make(self.base, **options) if make is not None else None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - its kinds are obstore's own, and panics are no Exception
            said = _without_secrets(error, self.options)
        raise ConfigError(f"options={sorted(self.options)} do not open {self.base!r}: {said}")


def _client_of_environment(base: str) -> dict[str, Any]:
    """Return what the environment says of connections, which obstore forgets as soon as one thing is said otherwise."""
    variables = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "ab": "AZURE_", "ad": "AZURE_"}
    prefix = variables.get(base[:2])
    names = {name: f"{prefix}{name.upper()}" for name in _CLIENT} if prefix else {}
    return {name: os.environ[variable] for name, variable in names.items() if variable in os.environ}


def obstore() -> Any:
    """Return the module.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return import_module("obstore")
    except ImportError as error:
        raise ImportError("object stores need obstore: pip install 'asyncbatch[objects]'", name="obstore") from error


def require_options(options: object, store: object) -> None:
    """Refuse what cannot open a store.

    Raises:
        ConfigError: The options are no mapping, hold what is said elsewhere, or come with a store.
    """
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(name, str) for name in options)):
        raise ConfigError("options must be a dict of what obstore is to know; write options={'region': 'eu-west-1'}")
    if options is not None and "retry_config" in options:
        raise ConfigError(
            "options holds 'retry_config', and tries are counted here; write reader=ObjectReader(retries=8)"
        )
    if options and store is not None:
        raise ConfigError(
            f"options={sorted(options)} are for a store yet to be opened, and store= is one; give one of both"
        )
    if store is not None and getattr(store, "prefix", None):
        raise ConfigError("store has a prefix of its own; give one of the whole bucket, and the prefix in the URL")


def is_object_url(text: str) -> bool:
    """Whether a text is the URL of something in an object store."""
    return (match := _URL.fullmatch(text)) is not None and match[1].lower() in _SCHEMES


def split_url(url: object, argument: str = "url") -> tuple[str, str]:
    """Return a URL's bucket, as `Bucket.base` has it, and the key in it, without slashes around it.

    Raises:
        ConfigError: It is no URL of an object store, or holds credentials.
    """
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None or match[1].lower() not in _SCHEMES or (not match[2] and match[1].lower() != "memory"):
        raise ConfigError(
            f"{argument} must be the URL of an object store, such as 's3://bucket/prefix', 'gs://…', 'az://…' or "
            f"'https://…', got {reprlib.repr(url)}"
        )
    scheme, host, key = match[1].lower(), match[2], (match[3] or "").strip("/")
    if ("@" in host and (":" in host or not scheme.startswith("abfs"))) or (scheme in ("http", "https") and "?" in key):
        raise ConfigError(  # which is not shown: it may be in a log next
            f"{argument} holds credentials, in front of an @ or behind a question mark; write it without them, and set "
            "the variables of the environment or options={'access_key_id': …, 'secret_access_key': …}"
        )
    if scheme == "https" and _BUCKET_IN_PATH.fullmatch(host):
        folder, _, key = key.partition("/")
        return f"https://{host}/{folder}", key
    return f"{scheme}://{host}", key


def failure(error: BaseException, options: Mapping[str, Any]) -> OSError:
    """Return an error of obstore's as one of ours, whose number says what can be done about it."""
    if isinstance(error, OSError) and (error.errno or isinstance(error, FileChanged)):
        return error  # of our own making
    if isinstance(error, MemoryError):
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    text = str(error)
    told, _, inner = text.partition("\n\nDebug source")
    if any(server in told for server in _CREDENTIAL_SERVERS):
        return OSError(
            errno.EAGAIN,
            "no credentials were found: set those of the environment (AWS_ACCESS_KEY_ID, …), or for a public bucket "
            "write options={'skip_signature': True}",
        )
    if status := _STATUS.search(told):
        code = _CODE.search(told)
        return _of_status(int(status[1]), f" ({status[1]}{' ' + code[1] if code else ''})")
    if kind := _KIND.search(inner):
        number = _OS_ERROR.search(inner)
        if number and int(number[1]) in _TOO_FEW:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        return _of_kind(kind[1])
    return OSError(errno.EINVAL, _without_secrets(error, options))


def _of_status(status: int, shown: str) -> OSError:
    if status == 404:
        return FileNotFoundError(errno.ENOENT, f"does not exist{shown}")
    if status in (401, 403):
        return PermissionError(errno.EACCES, f"may not be read with these credentials{shown}")
    if status == 416:
        return FileChanged(errno.EIO, f"is shorter than the sample's offset{shown}; list it again")
    if status in (408, 429) or status >= 500:
        return OSError(errno.EBUSY if status in (429, 503) else errno.EIO, f"the store could not answer{shown}")
    return OSError(errno.EINVAL, f"the store refused to answer{shown}")


def _of_kind(kind: str) -> OSError:
    number, said = {
        "Timeout": (errno.ETIMEDOUT, "the store did not answer in time"),
        "Connect": (errno.ECONNREFUSED, "the store cannot be connected to"),
        "Interrupted": (errno.ECONNRESET, "the connection ended within the answer"),
    }.get(kind, (errno.ECONNRESET, "the connection ended before the answer"))
    return OSError(number, said)


def _without_secrets(error: BaseException, options: Mapping[str, Any]) -> str:
    """Return the first line of what an error says, without addresses and values of options and of the environment."""
    said = _ADDRESS.sub("…", str(error).partition("\n")[0][:300])
    environment = [value for name, value in os.environ.items() if name.upper().startswith(_VARIABLES)]
    for value in sorted([*_texts(options), *environment], key=len, reverse=True):
        said = said.replace(value, "…") if len(value) >= _SHORT else said
    return said or type(error).__name__


def _texts(options: Mapping[str, Any]) -> list[str]:
    nested = [text for value in options.values() if isinstance(value, Mapping) for text in _texts(value)]
    return [value for value in options.values() if isinstance(value, str)] + nested
