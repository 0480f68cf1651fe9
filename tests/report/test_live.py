"""The server on loopback."""

from __future__ import annotations

import http.client
import socket

import pytest

from examples import metrics, write_run
from synaprune.errors import MachineError
from synaprune.report.live import LiveServer


def ask(server, path, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", int(server.address.rsplit(":", 1)[1].strip("/")), timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content


def test_the_page_follows_the_run(tmp_path):
    run = write_run(tmp_path, 0, epochs=2)
    with LiveServer(run) as server:
        assert server.address.startswith("http://127.0.0.1:")
        status, page = ask(server, "/")
        assert (status, "has no finished epoch" in page) == (200, True)
        before = ask(server, "/stamp")
        run.append(metrics(1))
        assert ask(server, "/stamp") != before
        page = ask(server, "/")[1]
        assert "after epoch 1 of" in page
        assert "connect-src 'self'" in page


def test_only_two_addresses_and_only_by_its_own_name(tmp_path):
    with LiveServer(write_run(tmp_path)) as server:
        assert ask(server, "/../settings.json")[0] == 404
        assert ask(server, "/", "evil.example")[0] == 403
        assert ask(server, "/", f"localhost:{server.address.rsplit(':', 1)[1].strip('/')}")[0] == 200


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"port {port} of this machine cannot be used"):
            LiveServer(write_run(tmp_path), port)
