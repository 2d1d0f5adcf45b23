"""Made-up calcium sessions with known truth: a movie on a torus, gratings, running, drift.

The movie moves along a path on a torus: th1 = 2 pi f / F and th2 = 6 pi f / F + 0.8 sin(4 pi f / F)
for frame f of F. A neuron fires at 4 exp(2 [(cos(th1 - m1) - 1) + (cos(th2 - m2) - 1)] + g v) + 0.1
per second, at most 60, with its own place (m1, m2) and gain g under running speed v; six in ten
follow no stimulus. A spike leaves a decaying trace; drift and noise are added. Sessions share the
stimuli and nothing else.

Letters: T frames of a session, F frames of the movie, N neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocli.systems.calcium.session import Table

Float = npt.NDArray[np.float64]
_N_DIRECTIONS, _FREQUENCIES = 8, (1.0, 2.0, 4.0, 8.0, 15.0)
_TRIAL_S, _GREY_S = 2.0, 1.0
_BLANK_SHARE, _UNTUNED_SHARE, _LOCKED_SHARE = 0.05, 0.6, 0.3
_RISE_S, _SPEED_TAU_S = 0.1, 3.0
_DECAY_S = 0.6


@dataclass(frozen=True)
class CohortSpec:
    """Say what is simulated.

    Args:
        seed: Of everything.
        n_neurons: Neurons of each session.
        n_frames: Frames of the movie, F.
        n_repeats: Presentations of the movie, back to back.
        n_trials: Presentations of each grating direction; 0 for none.
        rate_hz: Frames per second.
        noise: Of a frame, as a share of a spike's height.
        drift: Height of the slow baseline.
    """

    seed: int = 0
    n_neurons: tuple[int, ...] = (100, 140, 120)
    n_frames: int = 300
    n_repeats: int = 10
    n_trials: int = 10
    rate_hz: float = 30.0
    noise: float = 0.35
    drift: float = 0.1


@dataclass(frozen=True)
class Simulated:
    """Hold one made-up session.

    Args:
        name: Its name.
        traces: dF/F (T, N), float32.
        rate_hz: Frames per second.
        start_s: Time of the first frame.
        stimuli: `natural_movie_one` and `drifting_gratings` in frames; blank sweeps are left out.
        running: Speed (T,).
        truth: Place on the torus (T, 4) as cosines and sines; NaN without the movie.
        is_tuned: (N,) whether a neuron follows the stimuli.
    """

    name: str
    traces: npt.NDArray[np.float32]
    rate_hz: float
    start_s: float
    stimuli: Mapping[str, Table]
    running: Float
    truth: npt.NDArray[np.float32]
    is_tuned: npt.NDArray[np.bool_]


def torus(n_frames: int) -> Float:
    """Return the truth of the movie (F, 4): cosines, then sines, of the two angles.

    Args:
        n_frames: F.
    """
    phase = np.arange(n_frames) / n_frames
    angles = np.stack(
        [2 * np.pi * phase, 6 * np.pi * phase + 0.8 * np.sin(4 * np.pi * phase)], axis=1
    )
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def simulate(spec: CohortSpec, index: int) -> Simulated:
    """Return one session of a cohort; the same specification gives the same numbers.

    Args:
        spec: The cohort.
        index: Which session.
    """
    clock = np.random.default_rng([spec.seed, 0])  # of the stimuli, which all sessions share
    own = np.random.default_rng([spec.seed, 1, index])
    stimuli, n_total = _timeline(spec, clock)
    n_neurons = spec.n_neurons[index]
    speed = _running(n_total, spec.rate_hz, own)
    drive, is_tuned = _drive(spec, stimuli, n_total, n_neurons, own)
    gain = own.normal(0, 0.5, n_neurons)
    rate = np.minimum(drive * np.exp(speed[:, None] * gain) + 0.1, 60.0)
    truth = np.full((n_total, 4), np.nan, dtype=np.float32)
    movie = stimuli["natural_movie_one"]
    truth[movie.start] = torus(spec.n_frames)[movie.values["frame"]]
    return Simulated(
        name=f"synthetic-{index + 1}",
        traces=_fluorescence(rate, spec, own),
        rate_hz=spec.rate_hz,
        start_s=5.5,
        stimuli=stimuli,
        running=speed,
        truth=truth,
        is_tuned=is_tuned,
    )


def _timeline(spec: CohortSpec, rng: np.random.Generator) -> tuple[dict[str, Table], int]:
    n_movie = spec.n_frames * spec.n_repeats
    start = np.arange(n_movie)
    values = {"frame": start % spec.n_frames, "repeat": start // spec.n_frames}
    stimuli = {"natural_movie_one": Table(start, start + 1, values)}
    if not spec.n_trials:
        return stimuli, n_movie
    trials = [
        (direction, int(frequency))
        for direction in range(_N_DIRECTIONS)
        for frequency in np.arange(spec.n_trials) % len(_FREQUENCIES)
    ]
    trials += [(-1, -1)] * max(1, round(_BLANK_SHARE * len(trials)))
    order = rng.permutation(len(trials))
    period, shown = (round(s * spec.rate_hz) for s in (_TRIAL_S + _GREY_S, _TRIAL_S))
    start = n_movie + round(2 * spec.rate_hz) + period * np.arange(len(trials))
    told = np.array(trials)[order]
    keep = told[:, 0] >= 0
    stimuli["drifting_gratings"] = Table(
        start[keep],
        start[keep] + shown,
        {"direction": told[keep, 0], "temp_freq": told[keep, 1]},
    )
    return stimuli, int(start[-1] + period)


def _running(n_frames: int, rate_hz: float, rng: np.random.Generator) -> Float:
    """Return an Ornstein-Uhlenbeck path of unit variance."""
    from scipy.signal import lfilter

    keep = np.exp(-1.0 / (_SPEED_TAU_S * rate_hz))
    steps = rng.normal(0, np.sqrt(1 - keep**2), n_frames)
    steps[0] = rng.normal()
    path: Float = lfilter([1.0], [1.0, -keep], steps)
    return path


def _drive(
    spec: CohortSpec,
    stimuli: Mapping[str, Table],
    n_total: int,
    n_neurons: int,
    rng: np.random.Generator,
) -> tuple[Float, npt.NDArray[np.bool_]]:
    """Return the stimulus part of the firing rates (T, N), and who follows them."""
    drive = np.full((n_total, n_neurons), 4 * np.exp(-2.0))
    place = rng.uniform(0, 2 * np.pi, (2, n_neurons))
    table = torus(spec.n_frames)
    angles = np.arctan2(table[:, 2:], table[:, :2])
    turned = [np.cos(angles[:, axis, None] - place[axis]) - 1 for axis in range(2)]
    by_frame: Float = 4 * np.exp(2 * (turned[0] + turned[1]))
    movie = stimuli["natural_movie_one"]
    is_tuned = rng.random(n_neurons) >= _UNTUNED_SHARE
    by_frame[:, ~is_tuned] = 4 * np.exp(-2.0)
    drive[movie.start] = by_frame[movie.values["frame"]]
    if "drifting_gratings" in stimuli:
        _add_gratings(drive, stimuli["drifting_gratings"], is_tuned, spec.rate_hz, rng)
    return drive, is_tuned


def _add_gratings(
    drive: Float,
    table: Table,
    is_tuned: npt.NDArray[np.bool_],
    rate_hz: float,
    rng: np.random.Generator,
) -> None:
    n_neurons = len(is_tuned)
    best = rng.uniform(0, 2 * np.pi, n_neurons)
    octave = rng.uniform(0, np.log2(_FREQUENCIES[-1]), n_neurons)
    is_locked = rng.random(n_neurons) < _LOCKED_SHARE
    shown = int(table.stop[0] - table.start[0])
    seconds = np.arange(shown) / rate_hz
    onset = 1 - np.exp(-seconds / _RISE_S)
    for start, direction, step in zip(
        table.start, table.values["direction"], table.values["temp_freq"], strict=True
    ):
        frequency = _FREQUENCIES[int(step)]
        turn = np.cos(2 * np.pi * direction / _N_DIRECTIONS - best)
        tuned = 8 * np.exp(2 * (turn - 1) - 0.25 * (np.log2(frequency) - octave) ** 2)
        wave = 1 + 0.5 * is_locked * np.sin(2 * np.pi * frequency * seconds)[:, None]
        drive[start : start + shown, is_tuned] += (onset[:, None] * wave * tuned)[:, is_tuned]


def _fluorescence(
    rate: Float, spec: CohortSpec, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    from scipy.signal import lfilter

    n_frames, n_neurons = rate.shape
    spikes: Float = rng.poisson(rate / spec.rate_hz).astype(np.float64)
    traces = np.empty((n_frames, n_neurons))
    height: Float = np.asarray(0.25 * rng.lognormal(0, 0.4, n_neurons))
    share = np.arange(n_frames) / n_frames
    for neuron in range(n_neurons):
        keep = np.exp(-1.0 / (spec.rate_hz * _DECAY_S * rng.uniform(0.7, 1.3)))
        calcium = lfilter([1.0], [1.0, -keep], spikes[:, neuron])
        wave = np.sin(2 * np.pi * (rng.uniform(0.5, 2) * share + rng.random()))
        noise = spec.noise * height[neuron] * rng.normal(size=n_frames)
        traces[:, neuron] = height[neuron] * calcium + spec.drift * wave + noise
    return traces.astype(np.float32)
