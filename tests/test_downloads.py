from __future__ import annotations

import hashlib
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from http_server import Answer, FlakyServer, closed_port

from mobilesam import downloads, http_source
from mobilesam.downloads import DownloadError, TimeLimits
from tests.transfers import (
    CONTENT,
    GOOD,
    QUICK,
    SHA256,
    get,
    nothing_under_the_name,
    only_the_file,
    part_of,
)


def test_a_file_arrives_with_its_progress_told(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "model.pt"
    told: list[tuple[int, int]] = []
    url = server.serve("/model.pt", GOOD)
    assert get(target, url, progress=lambda *step: told.append(step)) == target
    assert only_the_file(target)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_file_that_is_there_is_not_asked_for(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    target.write_bytes(b"already here")
    assert get(target, server.serve("/model.pt", GOOD)).read_bytes() == b"already here"
    assert server.requests == []


def test_redirects_are_followed_and_keep_the_range(server: FlakyServer, tmp_path: Path) -> None:
    elsewhere = server.serve("/elsewhere", GOOD)
    target = tmp_path / "model.pt"
    part_of(target).write_bytes(CONTENT[:1000])
    get(target, server.serve("/model.pt", Answer(redirect=elsewhere)))
    assert only_the_file(target)
    assert server.ranges_of("/elsewhere") == ["bytes=1000-"]


def test_a_redirect_in_a_circle_is_an_error(server: FlakyServer, tmp_path: Path) -> None:
    url = server.serve("/model.pt", Answer(redirect="/model.pt"))
    with pytest.raises(DownloadError, match="answered 302"):
        get(tmp_path / "model.pt", url)


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_off_transfer_is_resumed(server: FlakyServer, tmp_path: Path, reset: bool) -> None:
    cut = replace(GOOD, cut_after=250_000, reset=reset)
    target = tmp_path / "model.pt"
    get(target, server.serve("/model.pt", cut, GOOD))
    assert only_the_file(target)
    first, second = server.ranges_of("/model.pt")
    assert first is None
    assert second == "bytes=250000-"


def test_a_stalled_transfer_is_resumed(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    get(target, server.serve("/model.pt", replace(GOOD, stall_after=100_000), GOOD))
    assert only_the_file(target)
    assert server.ranges_of("/model.pt") == [None, "bytes=100000-"]


def test_a_chunked_transfer_that_breaks_is_resumed(server: FlakyServer, tmp_path: Path) -> None:
    cut = replace(GOOD, chunked=True, cut_after=98_304)
    target = tmp_path / "model.pt"
    get(target, server.serve("/model.pt", cut, GOOD), size_bytes=None)
    assert only_the_file(target)


def test_a_later_run_takes_up_what_an_earlier_one_left(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    cut = replace(GOOD, cut_after=120_000)
    with pytest.raises(DownloadError, match=r"broke the transfer off after 120,000 of 600,000"):
        get(
            target,
            server.serve("/model.pt", cut, Answer(status=503)),
            limits=replace(QUICK, resumes=0),
        )
    assert nothing_under_the_name(target)
    assert part_of(target).read_bytes() == CONTENT[:120_000]
    get(target, server.serve("/again.pt", GOOD))
    assert only_the_file(target)
    assert server.ranges_of("/again.pt") == ["bytes=120000-"]


def test_another_address_continues_what_the_first_began(
    server: FlakyServer, tmp_path: Path
) -> None:
    cut = replace(GOOD, cut_after=200_000)
    first = server.serve("/first.pt", cut, Answer(status=503))
    get(tmp_path / "model.pt", first, server.serve("/second.pt", GOOD))
    assert only_the_file(tmp_path / "model.pt")
    assert server.ranges_of("/second.pt") == ["bytes=200000-"]


@pytest.mark.parametrize("ranges", ["ignored", "wrong", "refused"])
def test_a_server_that_cannot_resume_is_asked_for_all_of_it(
    server: FlakyServer, tmp_path: Path, ranges: str
) -> None:
    target = tmp_path / "model.pt"
    part_of(target).write_bytes(CONTENT[:1000])
    get(target, server.serve("/model.pt", replace(GOOD, ranges=ranges)))
    assert only_the_file(target)


def test_a_server_that_always_cuts_off_is_given_up(server: FlakyServer, tmp_path: Path) -> None:
    url = server.serve("/model.pt", replace(GOOD, cut_after=1000))
    with pytest.raises(DownloadError, match="broke the transfer off after 4,000 of 600,000 bytes"):
        get(tmp_path / "model.pt", url)
    assert len(server.requests) == QUICK.resumes + 1
    assert nothing_under_the_name(tmp_path / "model.pt")


def test_a_transfer_that_gets_on_each_time_is_not_given_up(
    server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "WORTH_A_TRY_BYTES", 50_000)
    url = server.serve("/model.pt", replace(GOOD, cut_after=60_000))
    get(tmp_path / "model.pt", url)
    assert only_the_file(tmp_path / "model.pt")
    assert len(server.requests) > 2 * QUICK.resumes


def test_a_file_that_is_empty_counts_for_none(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    target.touch()
    get(target, server.serve("/model.pt", GOOD))
    assert only_the_file(target)


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * 600_000, b"x" * 600_001])
def test_rubbish_left_by_an_earlier_run_is_replaced(
    server: FlakyServer, tmp_path: Path, left: bytes
) -> None:
    target = tmp_path / "model.pt"
    part_of(target).write_bytes(left)
    get(target, server.serve("/model.pt", GOOD))
    assert only_the_file(target)


def test_a_whole_file_that_only_lacks_its_name_needs_no_network(tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    part_of(target).write_bytes(CONTENT)
    get(target, f"http://127.0.0.1:{closed_port()}/model.pt")
    assert only_the_file(target)


@pytest.mark.parametrize("known_size", [len(CONTENT), None])
def test_wrong_bytes_are_refused_with_both_hashes(
    server: FlakyServer, tmp_path: Path, known_size: int | None
) -> None:
    wrong = bytes(600_000)
    with pytest.raises(DownloadError) as caught:
        get(tmp_path / "model.pt", server.serve("/model.pt", Answer(wrong)), size_bytes=known_size)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert nothing_under_the_name(tmp_path / "model.pt")
    assert not part_of(tmp_path / "model.pt").exists()


def test_a_second_address_may_be_right_where_the_first_lies(
    server: FlakyServer, tmp_path: Path
) -> None:
    lie = server.serve("/lie.pt", Answer(bytes(600_000)))
    get(tmp_path / "model.pt", lie, server.serve("/truth.pt", GOOD))
    assert only_the_file(tmp_path / "model.pt")


@pytest.mark.parametrize("chunked", [True, False])
def test_a_page_in_place_of_the_file_is_refused_unread(
    server: FlakyServer, tmp_path: Path, chunked: bool
) -> None:
    page = Answer(b"<html>log in</html>", chunked=chunked, content_type="text/html; charset=utf-8")
    with pytest.raises(DownloadError, match="sent a web page in place of the file"):
        get(tmp_path / "model.pt", server.serve("/model.pt", page))
    assert not part_of(tmp_path / "model.pt").exists()


def test_a_small_file_in_place_of_the_right_one_is_refused_unread(
    server: FlakyServer, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="offers 14 bytes, expected were 600,000"):
        get(tmp_path / "model.pt", server.serve("/model.pt", Answer(b"something else")))


def test_an_address_that_is_none_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"mirror/model\.pt cannot be reached \(unknown"):
        get(tmp_path / "model.pt", "mirror/model.pt")
    secret = f"http://me:secret@127.0.0.1:{closed_port()}/model.pt"
    with pytest.raises(DownloadError) as caught:
        get(tmp_path / "model.pt", secret)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("announced", [599_999, 700_000])
def test_a_length_that_is_not_true_is_refused(
    server: FlakyServer, tmp_path: Path, announced: int
) -> None:
    url = server.serve("/model.pt", replace(GOOD, announced_length=announced))
    with pytest.raises(DownloadError, match=f"offers {announced:,} bytes"):
        get(tmp_path / "model.pt", url)


@pytest.mark.parametrize("announced", [599_999, 700_000])
def test_an_unverifiable_lie_about_the_length_gives_no_file(
    server: FlakyServer, tmp_path: Path, announced: int
) -> None:
    url = server.serve("/model.pt", replace(GOOD, announced_length=announced, ranges="ignored"))
    with pytest.raises(DownloadError):
        get(tmp_path / "model.pt", url, size_bytes=None)
    assert nothing_under_the_name(tmp_path / "model.pt")


def test_an_endless_body_ends_where_the_file_would(server: FlakyServer, tmp_path: Path) -> None:
    url = server.serve("/model.pt", Answer(CONTENT * 3, chunked=True))
    with pytest.raises(DownloadError, match="sent more than the expected 600,000 bytes"):
        get(tmp_path / "model.pt", url)
    assert part_of(tmp_path / "model.pt").stat().st_size < 2 * len(CONTENT)
    get(tmp_path / "model.pt", server.serve("/model.pt", GOOD))
    assert only_the_file(tmp_path / "model.pt")


@pytest.mark.parametrize(("status", "words"), [(404, "Not Found"), (503, "Service Unavailable")])
def test_an_error_answer_sends_us_to_the_next_address(
    server: FlakyServer, tmp_path: Path, status: int, words: str
) -> None:
    bad = server.serve("/bad.pt", Answer(status=status))
    with pytest.raises(DownloadError, match=rf"127.0.0.1:\d+ answered {status} \({words}\)"):
        get(tmp_path / "model.pt", bad)
    get(tmp_path / "model.pt", bad, server.serve("/good.pt", GOOD))
    assert only_the_file(tmp_path / "model.pt")


def test_a_slow_server_is_waited_for(server: FlakyServer, tmp_path: Path) -> None:
    slow = replace(GOOD, delay_s=0.3, pause_s=0.01)
    get(
        tmp_path / "model.pt",
        server.serve("/model.pt", slow),
        limits=replace(QUICK, stall_seconds=5),
    )
    assert only_the_file(tmp_path / "model.pt")


def test_without_a_network_the_failure_is_known_within_five_seconds(
    server: FlakyServer, tmp_path: Path
) -> None:
    urls = [server.serve(f"/{n}.pt", replace(GOOD, delay_s=60)) for n in range(2)]
    with pytest.raises(DownloadError, match=r"within 0\.\d s; .* did not answer within 0\.\d s"):
        get(tmp_path / "model.pt", *urls, limits=replace(QUICK, open_seconds=1.0))
    assert TimeLimits().open_seconds <= 4  # a second for all else


def test_a_name_server_that_never_answers_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: released.wait(60))
    with pytest.raises(DownloadError, match=r"model\.example did not answer within 0\.\d s"):
        get(
            tmp_path / "m.pt", "https://model.example/m.pt", limits=replace(QUICK, open_seconds=0.2)
        )
    assert not released.is_set()
    released.set()


def test_an_unknown_host_and_a_closed_port_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    refusing = f"http://127.0.0.1:{closed_port()}/m.pt"
    with pytest.raises(DownloadError, match="refused the connection"):
        get(tmp_path / "m.pt", refusing)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match=r"model\.example cannot be found \(no network"):
        get(tmp_path / "m.pt", "https://model.example/m.pt")


def test_a_caller_may_stop_a_transfer_and_go_on_later(server: FlakyServer, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    url = server.serve("/model.pt", replace(GOOD, pause_s=0.001))

    def stop(done: int, _total: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(target, url, progress=stop)
    assert nothing_under_the_name(target)
    assert part_of(target).stat().st_size > 100_000
    get(target, url)
    assert only_the_file(target)


def test_a_terminal_sees_a_bar_and_a_log_file_does_not(
    server: FlakyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = server.serve("/model.pt", GOOD)
    get(tmp_path / "quiet.pt", url)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    get(tmp_path / "model.pt", url)
    assert "model.pt: 100%" in capsys.readouterr().err


def test_certificates_come_from_somewhere() -> None:
    assert http_source._tls_context().cert_store_stats()["x509_ca"] > 0
