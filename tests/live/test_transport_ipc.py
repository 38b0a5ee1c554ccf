"""ipc: whose path it is, names without a file, and who is at the other end."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from trio_mq._errors import EndpointError
from trio_mq._options import Options
from trio_mq._transports import Listener, has
from trio_mq._transports._ipc import MAX_PATH

from ._transports import address_of, connect, connected, listen, open_descriptors, receive, send_all

pytestmark = pytest.mark.skipif(not has("ipc"), reason="this platform has no Unix sockets")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract names and peer credentials: Linux only")


def leave_behind(path: Path) -> None:
    """The socket file of a process that crashed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()


def present(path: str | Path) -> bool:
    return os.path.lexists(path)


def contents(directory: Path) -> list[str]:
    return os.listdir(directory)


def listen_now(text: str, options: Options | None = None) -> Listener:
    transport, address = address_of(text, binding=True, options=options)
    return transport.listen_now(address, options or Options())


# ---- whose path it is


async def test_a_listener_makes_its_file_and_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = await listen(f"ipc://{path}")
    assert stat.S_ISSOCK(path.lstat().st_mode)
    assert listener.endpoint == f"ipc://{path}"
    listener.close()
    assert not path.exists()
    listener.close()


async def test_a_live_path_is_not_stolen(tmp_path: Path) -> None:
    async with connected(f"ipc://{tmp_path}/socket") as ends:
        before = open_descriptors()
        with pytest.raises(OSError, match="in use") as caught:
            await listen(ends.listener.endpoint)
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.filename == f"{tmp_path}/socket"
        assert open_descriptors() == before
        await send_all(ends.near, b"still connected")
        assert await receive(ends.far) == b"still connected"


async def test_a_live_path_with_a_full_backlog_is_not_stolen(tmp_path: Path) -> None:
    path = str(tmp_path / "busy")
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as waiting:
        theirs.bind(path)
        theirs.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError, match="in use"):
            await listen(f"ipc://{path}")
        assert present(path)


async def test_a_live_socket_of_another_kind_is_not_stolen(tmp_path: Path) -> None:
    path = str(tmp_path / "datagrams")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(path)
        with pytest.raises(OSError, match="in use"):
            await listen(f"ipc://{path}")
        assert present(path)


async def test_a_stale_path_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    leave_behind(path)
    async with connected(f"ipc://{path}") as ends:
        await send_all(ends.near, b"x")
        assert await receive(ends.far) == b"x"
    assert not path.exists()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/nonexistent")])
async def test_what_is_no_socket_is_never_removed(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]  # parametrized
    path = tmp_path / "precious"
    make(path)
    with pytest.raises(OSError, match="in use") as caught:
        await listen(f"ipc://{path}")
    assert caught.value.errno == errno.EADDRINUSE
    assert present(path)


async def test_a_file_that_took_the_place_of_ours_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = await listen(f"ipc://{path}")
    path.unlink()
    theirs = await listen(f"ipc://{path}")
    listener.close()
    near = await connect(f"ipc://{path}")
    far = await theirs.accept()
    for end in (near, far, theirs):
        end.close()
    assert not path.exists()


async def test_a_file_that_somebody_removed_is_not_missed(tmp_path: Path) -> None:
    listener = await listen(f"ipc://{tmp_path}/socket")
    (tmp_path / "socket").unlink()
    listener.close()


async def test_a_relative_path_is_removed_also_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = await listen("ipc://socket")
    assert listener.endpoint == "ipc://socket"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    listener.close()
    assert not (tmp_path / "socket").exists()


async def test_a_directory_that_does_not_exist_is_the_systems_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await listen(f"ipc://{tmp_path}/nowhere/socket")
    assert caught.value.filename == f"{tmp_path}/nowhere/socket"


# ---- wildcard


async def test_a_wildcard_is_a_new_path_for_this_user_alone_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with connected("ipc://*") as one, connected("ipc://*") as two:
        assert one.listener.endpoint != two.listener.endpoint
        path = Path(one.listener.endpoint.removeprefix("ipc://"))
        assert path.parent.parent == tmp_path
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert one.near.peer_address == one.listener.endpoint
    assert contents(tmp_path) == []


async def test_a_wildcard_in_a_directory_too_deep_for_a_path_is_an_os_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * MAX_PATH)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(OSError, match="no room") as caught:
        await listen("ipc://*")
    assert caught.value.errno == errno.ENAMETOOLONG
    assert contents(deep) == []


# ---- names without a file


@on_linux
async def test_an_abstract_name_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"@trio-mq-{os.getpid()}-abstract"
    async with connected(f"ipc://{name}") as ends:
        assert ends.listener.endpoint == f"ipc://{name}"
        assert ends.far.local_address == f"ipc://{name}"
        assert contents(tmp_path) == []


@on_linux
async def test_an_abstract_name_is_the_one_that_libzmq_means() -> None:
    # zmtp.md 11.2: sun_path = 00 name, the length exact.
    name = f"trio-mq-{os.getpid()}-exact"
    listener = await listen(f"ipc://@{name}")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(b"\0" + name.encode())
    listener.close()


# ---- lengths


async def test_the_longest_path_works(tmp_path: Path) -> None:
    room = MAX_PATH - len(os.fsencode(tmp_path)) - 1
    path = tmp_path / ("p" * room)
    async with connected(f"ipc://{path}"):
        assert path.exists()


@pytest.mark.parametrize("binding", [True, False])
@pytest.mark.parametrize(("path", "length"), [("/" + "p" * MAX_PATH, MAX_PATH + 1), ("é" * MAX_PATH, 2 * MAX_PATH)])
def test_a_path_too_long_is_refused_at_the_call_with_its_length_in_bytes(path: str, length: int, binding: bool) -> None:
    with pytest.raises(EndpointError, match=f"at most {MAX_PATH} bytes here, not {length}"):
        address_of(f"ipc://{path}", binding=binding)


# ---- connecting


async def test_a_missing_path_is_an_os_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        await connect(f"ipc://{tmp_path}/missing")
    assert open_descriptors() == before


async def test_a_stale_path_refuses_connections_and_stays(tmp_path: Path) -> None:
    leave_behind(tmp_path / "stale")
    with pytest.raises(ConnectionRefusedError):
        await connect(f"ipc://{tmp_path}/stale")
    assert (tmp_path / "stale").exists()


@on_linux
async def test_a_full_backlog_is_an_os_error_to_be_tried_again(tmp_path: Path) -> None:
    path = str(tmp_path / "busy")
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as waiting:
        theirs.bind(path)
        theirs.listen(0)
        waiting.connect(path)
        with pytest.raises(BlockingIOError, match="backlog full"):
            await connect(f"ipc://{path}")
        theirs.accept()[0].close()
        (await connect(f"ipc://{path}")).close()


@on_linux
async def test_an_accepted_peer_is_named_by_its_credentials(tmp_path: Path) -> None:
    async with connected(f"ipc://{tmp_path}/socket") as ends:
        assert ends.far.peer_address == f"ipc:uid={os.getuid()},gid={os.getgid()},pid={os.getpid()}"
        assert ends.far.local_address == ends.near.peer_address == ends.listener.endpoint


# ---- without waiting, and adopted


def test_a_listener_can_be_made_and_closed_without_a_loop(tmp_path: Path) -> None:
    before = open_descriptors()
    listener = listen_now(f"ipc://{tmp_path}/socket")
    listener.close()
    assert open_descriptors() == before
    assert contents(tmp_path) == []


async def test_an_adopted_descriptor_leaves_the_file_to_whoever_made_it(tmp_path: Path) -> None:
    path = str(tmp_path / "theirs")
    theirs = socket.socket(socket.AF_UNIX)
    theirs.bind(path)
    theirs.listen()
    async with connected("ipc://*", Options(use_fd=theirs.detach())) as ends:
        assert ends.listener.endpoint == f"ipc://{path}"
    assert present(path)


def test_a_tcp_descriptor_is_not_adopted_for_ipc() -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        with pytest.raises(OSError, match="no listening stream socket"):
            listen_now("ipc://*", Options(use_fd=theirs.fileno()))
        theirs.getsockname()


async def test_a_probe_for_life_is_a_connection_that_ends_at_once(tmp_path: Path) -> None:
    listener = await listen(f"ipc://{tmp_path}/socket")
    with pytest.raises(OSError, match="in use"):
        await listen(f"ipc://{tmp_path}/socket")
    with trio.fail_after(5):
        probe = await listener.accept()
        assert await receive(probe) == b""
    probe.close()
    listener.close()


def test_without_unix_sockets_ipc_is_refused_and_has_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    assert not has("ipc")
    with pytest.raises(EndpointError, match="needs Unix sockets"):
        address_of("ipc:///tmp/socket", binding=True)
