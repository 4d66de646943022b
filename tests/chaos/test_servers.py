"""The servers that chaos tests break: what each method does to them."""

import socket
from collections.abc import Callable

import pytest

from tests.chaos.servers import Server, Servers


def answers(server: Server) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
def test_a_server_goes_and_comes_back(end: Callable[[Server], None], servers: Servers) -> None:
    for server in servers.all:
        assert server.is_up
        assert answers(server)

        end(server)
        assert not server.is_up
        assert not answers(server)

        server.start()
        assert server.is_up
        assert answers(server)


def test_a_paused_server_says_nothing_until_it_is_resumed(servers: Servers) -> None:
    with socket.create_connection(("127.0.0.1", servers.redis.port), timeout=0.3) as connection:
        servers.redis.pause()
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(7)

        servers.redis.resume()
        connection.settimeout(5)
        assert connection.recv(7) == b"+PONG\r\n"


def test_a_wiped_server_has_nothing(servers: Servers) -> None:
    def ask(line: str) -> bytes:
        with socket.create_connection(("127.0.0.1", servers.redis.port), timeout=5) as connection:
            connection.sendall(f"{line}\r\n".encode())
            return connection.recv(100)

    assert ask("SET cat gray") == b"+OK\r\n"

    servers.redis.kill()
    servers.redis.wipe()
    servers.redis.start()

    assert ask("GET cat") == b"$-1\r\n"


def test_rabbitmqctl_reaches_the_broker(servers: Servers) -> None:
    assert "/" in servers.rabbitmq.ctl("list_vhosts").split()
