"""What went wrong with object storage, from whatever its library raises, in words that hold no secret.

The libraries are many and none is imported here, so errors are told by the names of their classes, by their codes and by
the errors of the operating system that they stand for.
"""

import errno
import re
from collections.abc import Iterator

from prefkit.errors import StoreError

__all__ = ["is_absent", "is_busy", "is_refused", "masked", "told"]

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""What to install for an address that begins so."""
_BUSY = frozenset(
    {
        "ClientConnectionError",
        "ClientConnectorError",
        "ClientOSError",
        "ClientPayloadError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "EndpointConnectionError",
        "FSTimeoutError",
        "HTTPClientError",
        "IncompleteRead",
        "IncompleteReadError",
        "ProxyError",
        "ReadTimeoutError",
        "ResponseParserError",
        "ServerDisconnectedError",
        "ServerTimeoutError",
    }
)
"""Classes of errors that pass: of aiohttp, botocore, http.client, requests and fsspec."""
_BUSY_NUMBERS = (
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.EREMOTEIO,
    errno.ETIMEDOUT,
)
_BUSY_CODES = frozenset(
    {"408", "429", "500", "502", "503", "504", "SlowDown", "InternalError", "RequestTimeout"}
)
_UNKNOWN = frozenset(
    {
        "DefaultCredentialsError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
    }
)
_REFUSED = frozenset(
    {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
)
_NO_BUCKET = re.compile(
    r"NoSuchBucket|specified bucket does not exist|bucket.*(not found|does not exist)", re.IGNORECASE
)
_FULL = re.compile(r"quota|QuotaExceeded|insufficient.*(space|storage)|StorageFull", re.IGNORECASE)
_SECRETS = re.compile(r"(?i)((?:secret|token|password|key|sig|signature|credential)[\w-]*=)[^&\s'\"]+")


def masked(address: str) -> str:
    """Return an address without the user, the password and the query it may carry."""
    scheme, sign, rest = address.partition("://")
    if not sign:
        return "***@" + address.rpartition("@")[2] if "@" in address and ":/" in address else address
    rest, query, _ = rest.partition("?")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{'***@' * ('@' in host)}{host.rpartition('@')[2]}{slash}{path}{'?***' * bool(query)}"


def is_absent(error: BaseException) -> bool:
    """Say whether a file was asked for that is not there. A bucket that is not there is another matter."""
    return isinstance(error, FileNotFoundError | NotADirectoryError) and not _NO_BUCKET.search(_all(error))


def is_busy(error: BaseException) -> bool:
    """Say whether it may go well the next time: a broken line, a server that is down or asks to slow down."""
    return any(_is_busy(each) for each in _causes(error))


def is_refused(error: BaseException | None) -> bool:
    """Say whether it is the rights of whoever asks that do not suffice."""
    if error is None:
        return False
    return isinstance(error, PermissionError) or bool(_codes(error) & _REFUSED) or "Forbidden" in _all(error)


def told(error: BaseException, verb: str, where: str, address: str) -> StoreError:
    """Return what to say. `verb` is what could not be done: `read`, `written`."""
    scheme = address.partition("://")[0]
    what, hint = _what(error, verb, scheme)
    return StoreError(_without_secrets(what, address), where=where, hint=hint)


def _what(error: BaseException, verb: str, scheme: str) -> tuple[str, str]:
    names, text = {type(each).__name__ for each in _causes(error)}, _all(error)
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(scheme)
        hint = f"pip install 'prefkit[{extra}]'" if extra else "install the fsspec file system for it"
        return f"a store at '{scheme}://' needs a library that is not installed: {_short(error)}", hint
    if isinstance(error, ValueError) and "Protocol not known" in text:
        return (
            f"'{scheme}://' is no kind of storage that fsspec knows",
            "s3://bucket/folder, gs://bucket/folder, or a folder",
        )
    if names & _UNKNOWN or "Unable to locate credentials" in text:
        return "there are no credentials for the storage", _CREDENTIALS.get(_EXTRAS.get(scheme, ""), _CHECK)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free space, or set PREFKIT_CACHE to a folder with room; what is finished is kept"
        return "there is no room on this machine for a copy of what the store holds", hint
    if _NO_BUCKET.search(text) or (isinstance(error, FileNotFoundError) and verb == "written"):
        return "there is no such bucket", "make it first, or give another --store"
    if _FULL.search(text):
        return (
            f"the storage has no room: {_short(error)}",
            "free space or raise the quota; what is finished is kept",
        )
    if is_refused(error):
        return (
            f"the storage refuses: {_short(error)}",
            "check which rights the credentials have: list, read, write and delete",
        )
    if is_busy(error):
        hint = "check the network and the address; what is finished is kept, so the next build goes on from there"
        return f"the storage does not answer: {_short(error)}", hint
    return f"the store cannot be {verb}: {_short(error)}", _CHECK


_CHECK = "check the address and its credentials"
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gcs": "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS",
}


def _is_busy(error: BaseException) -> bool:
    if isinstance(error, PermissionError | FileNotFoundError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _BUSY_NUMBERS:
        return True
    return bool({kind.__name__ for kind in type(error).__mro__} & _BUSY or _code(error) & _BUSY_CODES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, which libraries nest a few deep."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _codes(error: BaseException) -> set[str]:
    return {code for each in _causes(error) for code in _code(each)}


def _code(error: BaseException) -> set[str]:
    """Return the codes of an answer: `code` of gcsfs, `response` of botocore, `status` of aiohttp."""
    held = vars(error) if type(error).__module__ != "builtins" else {}
    answer = held.get("response")
    answer = answer if isinstance(answer, dict) else {}
    codes = [held.get("code"), held.get("status"), answer.get("Error", {}).get("Code")]
    return {str(code) for code in codes if isinstance(code, str | int)}


def _all(error: BaseException) -> str:
    return "\n".join(f"{each} {' '.join(_code(each))}" for each in _causes(error))


def _short(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _without_secrets(text: str, address: str) -> str:
    return _SECRETS.sub(r"\1***", text.replace(address, masked(address)))
