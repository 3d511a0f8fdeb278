"""The viewer's server: on this machine's own address unless the whole network is asked for."""

import contextlib
import io
import socket
import time
import typing

from rig3r_jax.viz.viewer.app import App
from rig3r_jax.viz.viewer.content import Content
from rig3r_jax.viz.viewer.truth import Truth

if typing.TYPE_CHECKING:
    import viser

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"


def serve(content: Content, truth: Truth | None, port: int, public: bool) -> None:
    """Serves until it is interrupted; prints one line with the address.

    Args:
        port: 0 takes a free one.
        public: whoever reaches this machine may look, not this machine alone.

    Raises ValueError where the port is in use.
    """
    server = start(port, public)
    try:
        app = App(server, content, truth)
        address = f"http://{socket.gethostname() if public else LOOPBACK}:{server.get_port()}"
        print(f"{address}   (Ctrl-C ends)", flush=True)
        while True:
            time.sleep(app.seconds)
            app.tick()
    except KeyboardInterrupt:
        pass
    finally:
        with contextlib.redirect_stdout(io.StringIO()):  # it says goodbye
            server.stop()


def start(port: int, public: bool) -> "viser.ViserServer":
    """A server on the port, which viser alone would replace by the next free one."""
    import viser  # of the extra `view`

    host = EVERYWHERE if public else LOOPBACK
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} cannot be had ({error}); give another, --port=0 takes a free one") from error
        port = probe.getsockname()[1]
    with contextlib.redirect_stdout(io.StringIO()):  # it greets with a box
        server = viser.ViserServer(host=host, port=port, label="rig3r view", verbose=False)
    if server.get_port() != port:
        server.stop()
        raise ValueError(f"port {port} is in use; give another, --port=0 takes a free one")
    return server
