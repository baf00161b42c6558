"""Downloads end, are verified before they are anywhere, and leave nothing behind."""

import hashlib
import http.server
import io
import multiprocessing
import os
import tarfile
import threading
import time

import pytest

from bpfree_common import progress
from bpfree_common.__main__ import main
from bpfree_common.data import datasets, download
from bpfree_common.data.checksum import checksum
from bpfree_common.errors import DataError, DataMissing

CONTENT = b"the bytes that were published" * 2_000
PAGE = b"<html>Welcome! Please accept our terms.</html>"
FOLDER = {"one.wav": b"first", "two.wav": b"second"}


def packed(files: dict[str, bytes], folder: str = "release-1/recordings") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Answers every request as `answer(handler)` says; counts the requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.released = 0, threading.Event()
        self.healthy()

    def healthy(self, content: bytes = CONTENT, status: int = 200) -> None:
        def answer(handler):
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

        self.answer = answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.server.answer(self)

    def log_message(self, *arguments):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:  # the other side has left, as it should
            self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.02,)).start()
        yield running
        running.released.set()
        running.shutdown()


@pytest.fixture
def toy(server, tmp_path, monkeypatch):
    """A data set of one file and one of a folder, both on the server; the cache."""
    file = {"name": "toy/file.bin", "sha256": checksum(CONTENT), "url": server.url}
    folder = {
        "name": "toy/recordings",
        "sha256": checksum(FOLDER),
        "url": server.url,
        "folder": True,
    }
    entries = {
        name: {"about": name, "licence": "none", "forms": {"raw": [wanted]}}
        for name, wanted in (("file", file), ("folder", folder))
    }
    monkeypatch.setattr(datasets, "catalogue", lambda: entries)
    monkeypatch.setenv("BPFREE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BPFREE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BPFREE_OFFLINE", raising=False)
    return tmp_path / "cache" / "data" / "toy"


def left(cache) -> list[str]:
    """What lies in the cache, hidden or not."""
    return sorted(path.name for path in cache.iterdir()) if cache.is_dir() else []


def test_a_good_file_and_a_good_folder_come_and_are_kept(toy, server):
    assert datasets.contents("file").files == [CONTENT]
    server.healthy(packed(FOLDER))
    assert datasets.contents("folder").files == [FOLDER]
    assert left(toy) == ["file.bin", "recordings"]
    asked = server.requests
    datasets.contents("file"), datasets.contents("folder")
    assert server.requests == asked


@pytest.mark.parametrize("name", ["file", "folder"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [(PAGE, 200), (b"", 200), (CONTENT[:-1], 200), (CONTENT, 404), (CONTENT, 503)],
    ids=["portal", "nothing", "cut", "not found", "unavailable"],
)
def test_what_is_not_the_published_file_never_stays(
    toy, server, capsys, name, sent, status
):
    server.healthy(sent, status)
    assert main(["data", name]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert {"file": "toy/file.bin", "folder": "toy/recordings"}[name] in said
    assert left(toy) == []
    server.healthy(CONTENT if name == "file" else packed(FOLDER))
    assert main(["data", name]) == 0


@pytest.mark.parametrize(
    "archive",
    [
        packed(FOLDER)[:-30],
        packed({"one.wav": b"first"}),
        packed(FOLDER | {"two.wav": b"changed"}),
        packed(FOLDER, "release-1/elsewhere"),
    ],
    ids=["cut", "incomplete", "changed", "elsewhere"],
)
def test_an_archive_of_another_folder_never_stays(toy, server, archive):
    server.healthy(archive)
    with pytest.raises(
        DataMissing, match="toy/recordings did not come: .*something else"
    ):
        datasets.files("folder")
    assert left(toy) == []


def test_an_archive_that_unpacks_without_end_is_left(toy, server, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 100_000)
    server.healthy(packed({"zeros.wav": bytes(200_000)}))
    with pytest.raises(DataMissing, match="unpacks to more than 100,000 bytes"):
        datasets.files("folder")
    assert left(toy) == []


def test_a_try_that_fails_is_made_again(toy, server, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 1)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    good = server.answer

    def first_bad(handler):
        server.answer = good
        handler.send_error(503)

    server.answer = first_bad
    assert datasets.contents("file").files == [CONTENT]
    assert server.requests == 2


def test_the_runner_sees_how_much_has_come(toy, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BPFREE_PROGRESS", str(tmp_path / "progress.json"))
    datasets.files("file")
    seen = progress.read(tmp_path / "progress.json")
    assert seen["stage"] == f"downloading {server.url}"
    assert seen["epoch"] == seen["epochs"] == len(CONTENT)
    assert capsys.readouterr() == ("", "")


def test_somebody_at_a_terminal_sees_a_bar(toy, server, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    datasets.files("file")
    assert "/58.0k" in capsys.readouterr().err


def drip(handler):
    """Good headers, then one byte now and then until the test is over."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b"x")


def silent(handler):
    """Not even headers."""
    handler.server.released.wait(30)


def flood(handler):
    """Good headers, then bytes without end."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.released.is_set():
        handler.wfile.write(bytes(100_000))


@pytest.mark.parametrize("answer", [drip, silent])
def test_a_server_that_never_gets_done_is_left(toy, server, monkeypatch, answer):
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    server.answer = answer
    with pytest.raises(DataMissing, match="fewer than 20000 bytes a second"):
        datasets.files("file")
    assert left(toy) == []


def test_a_server_that_never_stops_is_left(toy, server, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 1_000_000)
    server.answer = flood
    with pytest.raises(DataMissing, match="more than 1,000,000 bytes"):
        datasets.files("file")
    assert left(toy) == []


def test_a_bar_is_shown_where_somebody_looks_though_no_length_is_said(
    toy, server, monkeypatch
):
    monkeypatch.setattr(download.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("BPFREE_PROGRESS", raising=False)
    monkeypatch.setattr(download, "LARGEST", 1_000_000)
    server.answer = flood
    with pytest.raises(DataMissing, match="more than 1,000,000 bytes"):
        datasets.files("file")


def _fetch(start, url, sha256, target, done):
    start.wait()
    try:
        download.fetch(url, sha256, target, folder=True)
        done.put("came")
    except Exception as error:
        done.put(repr(error))


def test_three_downloads_of_one_folder_at_once_all_succeed(toy, server):
    server.healthy(packed(FOLDER))
    context = multiprocessing.get_context("spawn")
    start, done = context.Barrier(3), context.Queue()
    target = toy / "recordings"
    three = [
        context.Process(
            target=_fetch, args=(start, server.url, checksum(FOLDER), target, done)
        )
        for _ in range(3)
    ]
    for process in three:
        process.start()
    assert [done.get(timeout=120) for _ in three] == ["came"] * 3
    for process in three:
        process.join()
    assert left(toy) == ["recordings"]
    assert datasets.contents("folder").files == [FOLDER]


def test_a_folder_that_another_process_put_there_first_is_left_in_its_place(toy, server):
    server.healthy(packed(FOLDER))
    for _ in range(2):
        download.fetch(server.url, checksum(FOLDER), toy / "recordings", folder=True)
    assert left(toy) == ["recordings"]


def test_what_a_killed_download_left_is_cleared_and_what_is_going_on_is_not(toy, server):
    for name, age in (("killed", 2 * 86_400), ("going-on", 3_600)):
        room = toy / f".download-{name}"
        room.mkdir(parents=True)
        (room / "file").write_bytes(b"half")
        os.utime(room, (time.time() - age,) * 2)
    datasets.files("file")
    assert left(toy) == [".download-going-on", "file.bin"]


def test_a_hostile_archive_writes_nothing_outside(toy, server, tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in ("../../recordings/evil", "/recordings/absolute"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("x/recordings/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    server.healthy(stream.getvalue())
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataMissing):
        datasets.files("folder")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("place", ["/dev/null", "{file}", "{file}/below"])
def test_a_cache_that_cannot_be_written_is_named_with_what_to_do(
    toy, server, tmp_path, monkeypatch, capsys, place
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BPFREE_CACHE", place.format(file=tmp_path / "file"))
    assert main(["data", "file"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "set BPFREE_CACHE to a folder of yours" in said


# --- the network of the day -------------------------------------------------------------


@pytest.mark.parametrize("word", ["", "0", "false", "No"])
def test_the_network_is_used_unless_it_is_forbidden(toy, monkeypatch, word):
    monkeypatch.setenv("BPFREE_OFFLINE", word)
    assert datasets.available("file") is True


@pytest.mark.parametrize("word", ["1", "true", "YES"])
def test_offline_nothing_is_asked_and_nothing_fails(toy, server, monkeypatch, word):
    monkeypatch.setenv("BPFREE_OFFLINE", word)
    assert datasets.available("file") is False
    assert datasets.reachable("file") is True
    with pytest.raises(DataMissing, match="BPFREE_OFFLINE is set"):
        datasets.files("file")
    assert server.requests == 0


def test_an_unclear_wish_for_the_network_is_refused(toy, monkeypatch):
    monkeypatch.setenv("BPFREE_OFFLINE", "maybe")
    with pytest.raises(DataError, match="BPFREE_OFFLINE='maybe' is neither"):
        datasets.available("file")


def test_an_address_that_does_not_answer_is_an_error_and_no_absence(toy, server):
    server.healthy(status=503)
    with pytest.raises(DataMissing, match="HTTPError 503"):
        datasets.available("file")


def test_what_has_no_address_is_absent_whatever_the_network(toy, server):
    del datasets.catalogue()["file"]["forms"]["raw"][0]["url"]
    assert datasets.available("file") is datasets.reachable("file") is False
    assert server.requests == 0


def test_the_checksum_of_a_folder_is_that_of_what_sha256sum_prints():
    lines = "".join(
        f"{hashlib.sha256(FOLDER[name]).hexdigest()}  {name}\n"
        for name in ("one.wav", "two.wav")
    )
    backwards = dict(reversed(FOLDER.items()))
    assert checksum(backwards) == hashlib.sha256(lines.encode()).hexdigest()
