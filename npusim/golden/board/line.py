"""The line to a board: what comes is kept in a file and read on the way, what is missing at a time-out is named."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol, Self

from npusim.errors import InputError, UsageError
from npusim.golden.board.protocol import Transcript

__all__ = ["Line", "Port", "open_port"]

LONGEST_LINE: Final = 65536
"""Bytes without a line end after which nothing that is read is text of the harness."""


class Port(Protocol):
    """What pyserial opens."""

    def read(self, size: int) -> bytes:
        """At most so many bytes; fewer when its own time-out is over."""
        ...

    def write(self, data: bytes) -> Any:  # noqa: ANN401 - the number of bytes, or None
        """Send bytes."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def open_port(name: str, baud: int) -> Port:
    """Open a serial port.

    Raises
    ------
    UsageError
        If pyserial is not installed, or the port cannot be opened.
    """
    try:
        import serial
    except ImportError:
        raise UsageError("reading a port needs pyserial: pip install 'npusim[serial]'") from None
    try:
        port: Port = serial.serial_for_url(name, baudrate=baud, timeout=0.1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: the port cannot be opened: {error}; is the board connected, and the port free?") from error
    return port


class Line:
    """A port that is read into a transcript.

    Parameters
    ----------
    port
        The port.
    timeout
        Seconds without a whole line of the harness after which the board is given up.
    record
        The file that keeps every byte.
    """

    def __init__(self, port: Port, timeout: float, record: Path) -> None:
        self._port = port
        self._timeout = timeout
        self._record = record
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._seen = 0
        self.transcript = Transcript()

    def __enter__(self) -> Self:
        try:
            self._file = self._record.open("xb")
        except OSError as error:
            raise UsageError(
                f"{self._record}: cannot be written: {error.strerror or error}; name another file with --record"
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        self._port.close()

    def ask(self, request: str) -> None:
        """Send a request."""
        self.transcript.ready = False
        try:
            self._port.write(f"{request}\n".encode("ascii"))
        except OSError as error:
            raise InputError(f"the board is gone: {error}; what came is in {self._record}") from error

    def read_until(
        self, done: Callable[[Transcript], bool], missing: Callable[[Transcript], str], timeout: float | None = None
    ) -> None:
        """Read lines until something is so.

        Parameters
        ----------
        done
            Whether all is there.
        missing
            Says at a time-out what is not.
        timeout
            Seconds of silence, where they are others.

        Raises
        ------
        InputError
            If nothing whole comes any more, or something that is not the harness's text.
        """
        last = time.monotonic()
        while not done(self.transcript):
            if self._take():
                last = time.monotonic()
            elif time.monotonic() - last > (self._timeout if timeout is None else timeout):
                raise InputError(self._given_up(missing(self.transcript)))

    def _take(self) -> bool:
        """Read what is there; whether a whole line of the harness was in it."""
        try:
            content = self._port.read(4096)
        except OSError as error:
            raise InputError(f"the board is gone: {error}; what came is in {self._record}") from error
        if self._file is not None and content:
            self._file.write(content)
            self._file.flush()
        self._seen += len(content)
        *lines, self._rest = (self._rest + content).split(b"\n")
        self._rest = self._rest[-LONGEST_LINE:]
        known = self._count()
        for line in lines:
            self.transcript.take(line.decode("ascii", errors="replace").strip("\r"))
        return self._count() > known

    def _count(self) -> int:
        found = self.transcript
        return len(found.crcs) + found.ends + found.starts + found.ready + sum(map(len, found.values.values()))

    def _given_up(self, missing: str) -> str:
        found = self.transcript
        damaged = f", {found.damaged} lines were damaged" if found.damaged else ""
        if not found.starts:
            what = "nothing came" if not self._seen else f"{self._seen} bytes came, and no line of npusim_check.c among them"
            hint = "is NPUSIM_PUTCHAR defined, and --baud that of the board?"
            return f"{what} in {self._timeout:g} seconds{damaged}; {hint} What came is in {self._record}"
        return f"the board stopped for {self._timeout:g} seconds: {missing}{damaged}; what came is in {self._record}"
