"""HTTP connections with time limits: uvicorn closes no connection that is idle or slow to send its
request."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

SEND_SECONDS = 60.0  # that a client may leave its answer unread
HEAD_SECONDS = 30.0  # for a request's head to arrive, from the connection or the last answer on
MAX_CONNECTIONS = 256


class Protocol(H11Protocol):
    """A connection that is closed if a request's head does not arrive, or a response is not read, in time.

    Beyond `MAX_CONNECTIONS`, a new connection replaces the one that has been idle longest; if none is idle,
    the new one is closed.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_head()
        if len(self.connections) > MAX_CONNECTIONS:
            idle = [each for each in self.connections if isinstance(each, Protocol) and each.is_idle()]
            min(idle, key=Protocol.deadline, default=self).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        self._stop_sending()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Stop waiting once a head is there."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.is_idle():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._wait_for_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._stop_sending()
        self._send_timer = self.loop.call_later(SEND_SECONDS, self.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        self._stop_sending()
        super().resume_writing()

    def is_idle(self) -> bool:
        """Whether it is open, and no request is being received or answered."""
        return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

    def deadline(self) -> float:
        """When an idle connection will be closed, by the event loop's clock."""
        return self._head_timer.when() if self._head_timer else 0.0

    def abort(self) -> None:
        """Close the connection without an answer."""
        self._stop_waiting()
        self.transport.abort()

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.abort)

    def _stop_sending(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
