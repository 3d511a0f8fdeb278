"""The viewer's server: on this machine's own address, for its own pages, unless the whole network is asked for."""

import contextlib
import functools
import io
import socket
import time
import typing
from collections.abc import Iterator

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
    only = contextlib.nullcontext() if public else _own_pages_only(port)
    with only, contextlib.redirect_stdout(io.StringIO()):  # it greets with a box
        server = viser.ViserServer(host=host, port=port, label="rig3r view", verbose=False)
    if server.get_port() != port:
        server.stop()
        raise ValueError(f"port {port} is in use; give another, --port=0 takes a free one")
    return server


@contextlib.contextmanager
def _own_pages_only(port: int) -> Iterator[None]:
    """A server that is started in the block answers no WebSocket of another site's page.

    viser looks at no origins: any page in a browser of this machine could read what is shown. The library below it
    does, where it is told which.
    """
    import websockets.asyncio.server as library

    serve = library.serve
    origins = [None, *(f"http://{host}:{port}" for host in (LOOPBACK, "localhost"))]  # None: of no browser
    library.serve = functools.partial(serve, origins=origins)
    try:
        yield
    finally:
        library.serve = serve
