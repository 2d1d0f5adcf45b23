"""Devices, random state, signals."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import socket
import threading

import numpy as np
import pytest
import torch

from neurocli.core.engine import runtime
from neurocli.core.engine.runtime import (
    StopSignal,
    deterministic,
    environment_record,
    pick_device,
    restore_rng,
    rng_state,
    seed_everything,
    set_threads,
    to_device,
)
from neurocli.core.errors import ExitCode, MissingDependencyError, UsageError

CPU = torch.device("cpu")


def test_auto_takes_the_first_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    assert pick_device("auto").type == "xpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"


@pytest.mark.parametrize("name", ["cuda", "mps", "xpu"])
def test_absent_accelerator_exits_4(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in (torch.cuda, torch.backends.mps, torch.xpu):
        monkeypatch.setattr(module, "is_available", lambda: False)
    with pytest.raises(MissingDependencyError, match=f"no {name} device") as caught:
        pick_device(name)
    assert caught.value.code is ExitCode.MISSING_DEPENDENCY
    assert "--device cpu" in str(caught.value.hint)


def test_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown device 'cudo'; did you mean cuda"):
        pick_device("cudo")


def _draw() -> list[float]:
    return [random.random(), float(np.random.rand()), torch.rand(1).item(), random.gauss(0, 1)]


def test_seeding_repeats_every_generator() -> None:
    seed_everything(5)
    first = _draw()
    seed_everything(5)
    assert _draw() == first
    seed_everything(2**40)  # beyond what numpy takes
    assert _draw() != first


def test_random_state_survives_a_file() -> None:
    seed_everything(3)
    _draw()  # leaves a spare Gaussian in python's generator
    buffer = io.BytesIO()
    torch.save(rng_state(CPU), buffer)
    wanted = [_draw() for _ in range(3)]
    seed_everything(99)
    buffer.seek(0)
    restore_rng(torch.load(buffer, weights_only=True))
    assert [_draw() for _ in range(3)] == wanted


def test_to_device_walks_mappings_and_keeps_the_rest() -> None:
    batch = {"x": torch.ones(2), "deep": {"y": torch.zeros(1)}, "participant": ["sub-01"]}
    moved = to_device(batch, torch.device("meta"))
    assert moved["x"].device.type == moved["deep"]["y"].device.type == "meta"
    assert moved["participant"] == ["sub-01"]


def test_deterministic_is_local() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(CPU):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_set_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    set_threads(None)
    set_threads(3)
    assert told == [3]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.STOPPED),
        (signal.SIGUSR1, ExitCode.STOPPED),
        (signal.SIGHUP, ExitCode.STOPPED),
    ],
)
def test_signal_sets_a_flag_only_and_handlers_come_back(
    number: signal.Signals, code: ExitCode
) -> None:
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.code is code
    assert signal.getsignal(number) is before


def test_second_signal_interrupts_at_once() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.code is ExitCode.STOPPED


def test_ignored_hang_up_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with StopSignal():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_environment_names_versions_and_nobody() -> None:
    record = environment_record()
    text = json.dumps(record)
    assert record["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert record["torch_threads"] == torch.get_num_threads()
    assert socket.gethostname() not in text.replace(record["system"], "")
    assert os.path.expanduser("~") not in text
    assert set(record["packages"]) <= set(runtime._PACKAGES)
