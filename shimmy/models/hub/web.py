"""HTTP as pulls use it: http and https only, through the user's proxy, errors in our words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from shimmy.errors import PullError, RemoteError, ShimmyError, UnauthorizedError, UnreachableError

# A server that says nothing for this long is asked again; a whole file may take hours.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)


def session() -> aiohttp.ClientSession:
    """Return a session, which the caller closes. Bodies come as they are, so that sizes count."""
    return aiohttp.ClientSession(
        timeout=_TIMEOUT,
        trust_env=True,
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "shimmy"},
    )


@contextmanager
def in_our_words(url: str) -> Iterator[None]:
    """Turn what goes wrong between us and `url` into errors that say what to do."""
    try:
        yield
    except aiohttp.NonHttpUrlRedirectClientError as error:
        raise PullError(f"{url} leads to {error}, which is neither http nor https") from error
    except aiohttp.InvalidURL as error:
        raise PullError(f"{url} leads to {error}, which is no URL") from error
    except aiohttp.TooManyRedirects as error:
        raise PullError(f"{url} leads in circles") from error
    except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise UnreachableError(
            f"{url} cannot be reached ({_reason(error)}): check the network and the proxy's settings"
        ) from error


def _reason(error: Exception) -> str:
    """Say it in a few words; what aiohttp says of a failed connection is its own affairs."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno:
        known = error.errno > 0  # the resolver's numbers are below
        return os.strerror(error.errno) if known else str(error.strerror)
    return str(error) or type(error).__name__


def check(response: aiohttp.ClientResponse) -> None:
    """Raise what a status means.

    Raises:
        UnauthorizedError, RemoteError: the status says no.
        PullError: a redirect left https.
    """
    asked = response.history[0].url if response.history else response.url
    chain = [*(step.url for step in response.history), response.url]
    if asked.scheme == "https" and any(url.scheme != "https" for url in chain):
        raise PullError(f"{asked} leads to {response.url}: from https to http is refused")
    if response.status >= 400:
        raise refusal(response.status, str(asked))


def refusal(status: int, url: str) -> ShimmyError:
    """Return the error for a status that says no."""
    if status in {401, 403}:
        return UnauthorizedError(
            f"{url} is not open to us (status {status}): accept its terms on the web page if it has "
            "some, and give a token in HF_TOKEN or with `hf auth login`"
        )
    if status == 404:
        return RemoteError(f"{url} does not exist", status=status)
    return RemoteError(f"{url} answers with status {status}: try again later", status=status)
