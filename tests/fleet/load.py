"""Requests that never pause, some streamed, each over a connection of its own: what an upgrade must not be noticed by.

With ``long_tokens`` there is also always one stream of that length under way, whenever something is replaced.
"""

import http.client
import json
import threading
import time
from typing import Self

PAUSE_SECONDS = 0.1
CLIENTS = 2
TOKENS = 20


class Load:
    """``with Load(…) as load``: runs for as long as the block; then ``ok`` and ``failed`` say how requests went."""

    def __init__(self, host: str, port: int, key: str, model: str, long_tokens: int = 0) -> None:
        self.ok = self.ok_long = 0
        self.failed: list[str] = []
        self._to = (host, port)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._model = model
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        if long_tokens:
            self._threads.append(threading.Thread(target=self._run_long, args=(long_tokens,)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def ask(self, *, stream: bool = False, tokens: int = TOKENS) -> str:
        """One request; empty when it was answered whole, else what went wrong."""
        connection = http.client.HTTPConnection(*self._to, timeout=30)
        message = {"role": "user", "content": "hello"}
        body = {"model": self._model, "stream": stream, "max_tokens": tokens, "messages": [message]}
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), self._headers)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()
        whole = "[DONE]" in text and text.count("data:") > tokens if stream else '"finish_reason"' in text
        return "" if response.status == http.client.OK and whole else f"{response.status}: {text[-300:]}"

    def _run(self) -> None:
        stream = False
        while not self._over.is_set():
            stream = not stream
            self.ok += self._went_well(self.ask(stream=stream))
            self._over.wait(PAUSE_SECONDS)

    def _run_long(self, tokens: int) -> None:
        while not self._over.is_set():
            self.ok_long += self._went_well(self.ask(stream=True, tokens=tokens))

    def _went_well(self, problem: str) -> bool:
        if problem:
            self.failed.append(f"{time.strftime('%H:%M:%S')} {problem}")
        return not problem
