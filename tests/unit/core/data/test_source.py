"""Opening a user's file: whatever lies there, the answer is content or one clear line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from neurocli.core.data.source import check_regular, foreign_content, open_regular
from neurocli.core.errors import InputError


def test_a_regular_file_is_read_and_a_link_followed(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    (tmp_path / "link.bin").symlink_to(path)
    for name in ("a.bin", "link.bin"):
        assert check_regular(tmp_path / name) == 5
        with open_regular(tmp_path / name) as handle:
            assert handle.read() == b"12345"


def test_what_is_no_file_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "dead").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    problems = {
        "pipe": "no regular file",
        "socket": "no regular file",
        "empty": "empty",
        "dead": "link to a missing file",
        "loop": "points to itself",
        "folder": "is a folder",
        "absent": "does not exist",
        "a\0b": "no usable file name",
        "folder/x/y": "does not exist",
    }
    for name, problem in problems.items():
        with pytest.raises(InputError, match=problem) as caught, open_regular(tmp_path / name):
            pass
        assert caught.value.where == str(tmp_path / name)
        assert caught.value.hint


def test_devices_are_refused():
    with pytest.raises(InputError, match="no regular file"):
        check_regular(Path("/dev/zero"))


def test_a_dead_link_of_an_archive_says_how_to_fetch(tmp_path):
    path = tmp_path / "bold.nii.gz"
    path.symlink_to("../.git/annex/objects/x")
    with pytest.raises(InputError) as caught:
        check_regular(path)
    assert "datalad get bold.nii.gz" in caught.value.hint


def test_the_size_limit_holds(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(100))
    assert check_regular(path, max_bytes=100) == 100
    with pytest.raises(InputError, match="100 of 99 bytes"):
        check_regular(path, max_bytes=99)


def test_a_failing_disk_names_the_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"1")
    with pytest.raises(InputError, match="Input/output error") as caught, open_regular(path):
        raise OSError(5, "Input/output error")
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"version https://git-lfs spec", "git-lfs"),
        (b"/annex/objects/MD5E-s1--0", "git-annex"),
        (b"../../.git/annex/objects/a/b", "git-annex"),
        (b"  <HTML><body>", "web page"),
        (b"<?xml version='1.0'?>", "XML"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"PK\x03\x04", "zip"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"a,b\n1,2\n", "plain text"),
    ],
)
def test_content_is_recognised(head, word):
    problem, fix = foreign_content(head)
    assert word in problem
    assert fix


def test_wanted_and_unknown_content_is_not_named():
    assert foreign_content(b"a,b\n1,2\n", is_text_wanted=True) is None
    assert foreign_content(bytes([1, 2, 3, 200])) is None
    assert foreign_content(b"path\n.git/annexed\n", is_text_wanted=True) is None
