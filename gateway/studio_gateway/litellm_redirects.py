"""Where LiteLLM may be led: nowhere. The HTTP clients below it would follow a redirect to any address, with the operator's key.

It makes clients in many places, each with its own settings; all of them send through one method of httpx. A provider that has
moved is an operator's business: its new address is written down, and looked at like the first one.
"""

from typing import Any

MARK = "_studio_follows_none"


class RedirectRefusedError(Exception):
    """A provider answered with a redirect, which was not followed."""


def follow_none(httpx: Any) -> None:
    """From now on no client of the module ``httpx`` in this process follows a redirect: it raises RedirectRefusedError."""
    if getattr(httpx, MARK, False):
        return
    setattr(httpx, MARK, True)
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    def sent(client: Any, request: Any, **options: Any) -> Any:
        response = send(client, request, **(options | {"follow_redirects": False}))
        if response.has_redirect_location:
            response.close()
            raise _refused(response)
        return response

    async def sent_async(client: Any, request: Any, **options: Any) -> Any:
        response = await send_async(client, request, **(options | {"follow_redirects": False}))
        if response.has_redirect_location:
            await response.aclose()
            raise _refused(response)
        return response

    httpx.Client.send, httpx.AsyncClient.send = sent, sent_async


def was_redirected(error: BaseException) -> bool:
    """Whether a refused redirect is what ``error`` comes from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RedirectRefusedError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _refused(response: Any) -> RedirectRefusedError:
    # Not where to: that may hold a key, and is a stranger's choice.
    return RedirectRefusedError(f"the provider answered with a redirect ({response.status_code}), and none is followed")
