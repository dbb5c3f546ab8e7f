"""Downloads against a server of our own: resumed, checked, whole or absent; archives that must not be unpacked."""

import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from neuro.datasets.downloads import DownloadError, Remote, download
from neuro.datasets.unpacking import unpack
from neuro.errors import FormatError, ParameterError

DATA = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(DATA).hexdigest()


class Server:
    """Serves `data` under any path; after `cut` bytes of one answer the connection ends."""

    def __init__(self):
        server = self
        self.data, self.cut, self.etag, self.starts = DATA, None, '"1"', []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range", "")
                resumes = wanted and self.headers.get("If-Range") == server.etag
                start = int(wanted[6:-1]) if resumes else 0
                server.starts.append(start)
                if start >= len(server.data):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(server.data)}")
                    self.end_headers()
                    return
                self.send_response(206 if resumes else 200)
                if resumes:
                    self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
                self.send_header("Content-Length", str(len(server.data) - start))
                self.send_header("ETag", server.etag)
                self.end_headers()
                self.wfile.write(server.data[start : None if server.cut is None else start + server.cut])

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/file"


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_a_download_goes_on_where_it_stopped(server, tmp_path):
    remote = Remote("a.bin", server.url, md5=MD5)
    server.cut = 100_000
    for _ in range(2):
        with pytest.raises(DownloadError, match="try again"):
            download([remote], tmp_path)
        assert not (tmp_path / "a.bin").exists()
    server.cut = None
    (path,) = download([remote], tmp_path)
    assert path.read_bytes() == DATA and server.starts == [0, 100_000, 200_000]
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    download([remote], tmp_path)
    assert len(server.starts) == 3  # what is there and right is not got again


def test_another_version_starts_again(server, tmp_path):
    server.cut = 100_000
    with pytest.raises(DownloadError):
        download([Remote("a.bin", server.url)], tmp_path)
    server.cut, server.data, server.etag = None, DATA[::-1], '"2"'
    (path,) = download([Remote("a.bin", server.url)], tmp_path)
    assert path.read_bytes() == DATA[::-1] and server.starts == [0, 0]


def test_a_part_that_is_whole_only_takes_its_name(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(DATA)
    (tmp_path / "a.bin.part.json").write_text(f'{{"url": "{server.url}", "version": "\\"1\\""}}')
    (path,) = download([Remote("a.bin", server.url, md5=MD5)], tmp_path)
    assert path.read_bytes() == DATA and server.starts == [len(DATA)]


def test_wrong_bytes_are_refused_and_removed(server, tmp_path):
    for remote in (Remote("a", server.url, md5="0" * 32), Remote("a", server.url, sha256="0" * 64), Remote("a", server.url, size=5)):
        with pytest.raises(FormatError, match="expected"):
            download([remote], tmp_path)
        assert not list(tmp_path.iterdir())
    (tmp_path / "a").write_bytes(b"other")
    with pytest.raises(FormatError, match=MD5):
        download([Remote("a", server.url, md5=MD5)], tmp_path)
    assert (tmp_path / "a").read_bytes() == b"other"  # not ours to remove


def test_without_network_the_error_says_what_to_put_where(tmp_path):
    with pytest.raises(DownloadError) as caught:
        download([Remote("set.zip", "http://127.0.0.1:9/set.zip", md5=MD5)], tmp_path / "data")
    assert str(tmp_path / "data" / "set.zip") in str(caught.value) and MD5 in str(caught.value)
    with pytest.raises(DownloadError, match="without a person"):
        download([Remote("form.zip", None)], tmp_path)
    for file, url in (("../a", "https://x"), ("", "https://x"), ("a", "file:///etc/passwd"), ("a\\b", "https://x")):
        with pytest.raises(ParameterError):
            Remote(file, url)


def archive(kind, path, files):
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, data in files.items():
                made.writestr(name, data)
        return
    with tarfile.open(path, "w:gz") as made:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives_are_unpacked_whole_or_not_at_all(kind, tmp_path):
    path, folder = tmp_path / f"a.{kind}", tmp_path / "out"
    archive(kind, path, {"train/0.bin": DATA, "train/b/1.bin": b""})
    unpack(path, folder)
    assert (folder / "train/0.bin").read_bytes() == DATA and (folder / "train/b/1.bin").read_bytes() == b""
    with pytest.raises(FileExistsError):
        unpack(path, folder)
    path.write_bytes(path.read_bytes()[:-1000] if kind == "tar.gz" else path.read_bytes()[:1000])
    with pytest.raises(FormatError, match="damaged"):
        unpack(path, tmp_path / "cut")
    for name in ("../evil", "/tmp/evil", "a/../../evil"):
        archive(kind, path, {"good": b"1", name: b"2"})
        with pytest.raises(FormatError, match="leaves the folder"):
            unpack(path, tmp_path / "evil")
    archive(kind, path, {"large": DATA})
    with pytest.raises(FormatError, match="more than 1000"):
        unpack(path, tmp_path / "large", limit=1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "out"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_names_that_clash_are_refused(names, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        for name in names:
            made.writestr(name, b"1")
    with pytest.raises(FormatError, match="twice"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(member)
    with pytest.raises(FormatError, match="link"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
