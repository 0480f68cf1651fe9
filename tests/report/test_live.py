"""The server on loopback: who is answered, how slow a client may be, and what it makes of odd files."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
import tracemalloc
from urllib.parse import urlsplit

import pytest

from examples import ODD_LINES, metrics, write_run
from synaprune.errors import MachineError
from synaprune.report import live
from synaprune.report.live import LiveServer


def port_of(server):
    return urlsplit(server.address).port


def ask(server, path="/", host=None, token=True):
    """Ask for a path with the token of the address, with another one, or with none (False)."""
    query = f"?{urlsplit(server.address).query}" if token is True else f"?token={token}" if token else ""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=20)
    connection.request("GET", path + query, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content


@pytest.fixture
def server(tmp_path):
    with LiveServer(write_run(tmp_path)) as server:
        yield server


def test_the_page_follows_the_run(tmp_path):
    run = write_run(tmp_path, 0, epochs=2)
    with LiveServer(run) as server:
        assert server.address.startswith("http://127.0.0.1:")
        status, page = ask(server)
        assert (status, "has no finished epoch" in page) == (200, True)
        before = ask(server, "/stamp")
        run.append(metrics(1))
        assert ask(server, "/stamp") != before
        page = ask(server)[1]
        assert "after epoch 1 of" in page
        assert "connect-src 'self'" in page


@pytest.mark.parametrize("path", ["/", "/stamp", "/../settings.json", "//evil.example/", "/settings.json", "/[", "*"])
def test_only_two_addresses_and_only_by_its_own_name(server, path):
    known = 200 if path in ("/", "/stamp") else 404
    for host in (None, f"localhost:{port_of(server)}", f"127.0.0.1:{port_of(server)}"):
        assert ask(server, path, host)[0] == known
    for host in ("evil.example", f"evil.example:{port_of(server)}", "127.0.0.1", "127.0.0.1:1", "", "[::1]"):
        assert ask(server, path, host)[0] == 403


@pytest.mark.parametrize("path", ["/", "/stamp", "/settings.json"])
@pytest.mark.parametrize("token", [False, "x", "%00", "%ff%fe", "%C3%A9", "a&token=b", "a" * 5000])
def test_who_does_not_know_the_token_is_refused(server, path, token):
    status, content = ask(server, path, token=token)
    assert status == 403
    assert "connectivity" not in content


def test_a_part_of_the_token_is_none_and_each_server_has_its_own(server, tmp_path):
    word = urlsplit(server.address).query.partition("=")[2]
    assert len(word) >= 20
    for other in (word[:-1], word + "x", word.swapcase(), ""):
        assert ask(server, token=other)[0] == 403
    with LiveServer(write_run(tmp_path / "other")) as second:
        assert ask(second, token=word)[0] == 403


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"port {port} of this machine cannot be used"):
            LiveServer(write_run(tmp_path), port)


def request_of(server):
    address = urlsplit(server.address)
    return f"GET /?{address.query} HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n".encode()


def connected(server):
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=20)


def rest_of(client):
    """Read until the server closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while block := client.recv(1 << 16):
            found += block
    return found


def test_a_client_that_says_nothing_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(live._Handler, "timeout", 0.3)
    with connected(server) as client:
        begin = time.monotonic()
        assert rest_of(client) == b""
        assert time.monotonic() - begin < 5


def test_a_client_that_speaks_letter_by_letter_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(live, "LIFE_SECONDS", 0.5)
    with connected(server) as client:
        begin = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begin < 10:
                client.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begin < 5
    assert ask(server)[0] == 200


@pytest.fixture
def large(server, monkeypatch):
    """A page that no buffer of the system holds."""
    monkeypatch.setattr(server._server.page, "content", lambda: bytes(30_000_000))
    return server


def test_a_client_that_does_not_read_is_cut_off_and_disturbs_nobody(large, monkeypatch, capfd):
    server = large
    monkeypatch.setattr(live._Handler, "timeout", 0.5)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", port_of(server)))
        client.sendall(request_of(server))
        assert ask(server, "/stamp")[0] == 200  # while it holds its thread
        assert server._server._begun
        deadline = time.monotonic() + 10
        while server._server._begun and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server._server._begun
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("read", [0, 1, 1000])
def test_a_browser_that_leaves_in_the_middle_leaves_no_traceback(large, read, capfd):
    server = large
    for _ in range(5):
        client = connected(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # it goes with a reset
        client.sendall(request_of(server))
        if read:
            client.recv(read)
        client.close()
    deadline = time.monotonic() + 10
    while server._server._begun and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ask(server, "/stamp")[0] == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "said", [b"\r\n\r\n", b"\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"x" * 70_000]
)
def test_what_is_no_request_is_refused_without_a_word_in_the_terminal(server, said, capfd):
    with connected(server) as client, contextlib.suppress(ConnectionError):
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        assert b" 200 " not in rest_of(client)
    assert ask(server)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_many_clients_get_the_page_which_is_made_once(server, monkeypatch):
    made = []
    real = live.run_page
    monkeypatch.setattr(live, "run_page", lambda *args: made.append(1) or real(*args))
    found = []
    threads = [threading.Thread(target=lambda: found.append(ask(server)[0])) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 40
    assert len(made) == 1


def test_more_clients_than_there_is_room_for_are_sent_away(server, monkeypatch):
    monkeypatch.setattr(live, "CLIENTS", 3)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(3)]
        deadline = time.monotonic() + 10
        while len(server._server._begun) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        with connected(server) as late:
            assert rest_of(late) == b""
        silent[0].close()
        while len(server._server._begun) > 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ask(server)[0] == 200


def test_metrics_of_another_shape_are_a_sentence_or_a_page(tmp_path, capfd):
    run = write_run(tmp_path, 1, epochs=2)
    with LiveServer(run) as server:
        for line in ODD_LINES:
            run.metrics_path.write_bytes(line + b"\n" + json.dumps(metrics(2)).encode() + b"\n")
            status, page = ask(server)
            assert status == 200
            assert "after epoch 2 of" in page or "<h1>Waiting</h1>" in page
            assert "Error" not in page.partition("<script")[0], line
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "{", '{"settings": 1}', '{"settings": {"epochs": []}}', '{"settings": {}, "versions": 5}'],
)
@pytest.mark.parametrize("name", ["settings.json", "evaluation.json", "checkpoint.safetensors"])
def test_other_files_of_another_shape_leave_no_traceback(tmp_path, name, content, capfd):
    run = write_run(tmp_path, 1)
    with LiveServer(run) as server:
        (tmp_path / name).write_text(content)
        assert ask(server)[0] == 200
        (tmp_path / name).write_text('{"epoch": 1, "operations": {"total": 3}, "energy": []}')
        assert ask(server)[0] == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_two_hundred_thousand_epochs_are_a_page_as_small_as_that_of_some_hundred(tmp_path):
    run = write_run(tmp_path, 500, epochs=200_100)
    small = len(ask_once(run))
    with run.metrics_path.open("w") as file:
        file.writelines(json.dumps(metrics(epoch)) + "\n" for epoch in range(1, 200_001))
    with LiveServer(run) as server:
        tracemalloc.start()
        begin = time.process_time()
        page = ask(server)[1]
        first = time.process_time() - begin
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "after epoch 200000 of" in page
        assert len(page) < 1.3 * small
        assert first < 10  # tracing included
        assert peak < 60e6
        begin = time.process_time()
        for epoch in range(200_001, 200_011):
            run.append(metrics(epoch))
            assert f"after epoch {epoch} of" in ask(server)[1]
        assert time.process_time() - begin < 3


def ask_once(run):
    with LiveServer(run) as server:
        return ask(server)[1]
