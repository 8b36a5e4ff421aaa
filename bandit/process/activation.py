"""A listening socket that another process, such as systemd, has opened for us: it outlives every restart of ours.

The protocol is that of sd_listen_fds(3): LISTEN_PID is our process, LISTEN_FDS how many descriptors there are, and the
first of them is 3. While no server runs, connections wait in the socket's queue, and the next server accepts them.
"""

import os
import socket

FIRST = 3  # SD_LISTEN_FDS_START


class ActivationError(RuntimeError):
    """What was handed to us is no socket that we can listen on."""


def listener() -> socket.socket | None:
    """The socket that was handed to this process, taken out of the environment; None where there is none.

    Raises:
        ActivationError: if it is not exactly one listening TCP socket.
    """
    given = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if given["LISTEN_PID"] != str(os.getpid()):
        return None
    if given["LISTEN_FDS"] != "1":
        raise ActivationError(f"expected one socket in LISTEN_FDS, got {given['LISTEN_FDS'] or 'none'}")
    try:
        found = socket.socket(fileno=FIRST)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ActivationError(f"descriptor {FIRST}, named by LISTEN_FDS, is no socket: {error.strerror}") from error
    if not listens or found.family not in (socket.AF_INET, socket.AF_INET6):
        raise ActivationError("expected a listening TCP socket in LISTEN_FDS (ListenStream= with a port), got another")
    found.set_inheritable(False)
    return found
