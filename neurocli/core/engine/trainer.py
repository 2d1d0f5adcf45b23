"""The two halves of an epoch, training and judgement, and what is saved between them."""

from __future__ import annotations

import contextlib
import itertools
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.core.data.loader import Batches, Share
from neurocli.core.engine.checkpoint import BEST, LAST, PREVIOUS, check_plain, save_checkpoint
from neurocli.core.engine.parallel.choose import check_shares
from neurocli.core.engine.parallel.shard_files import SHARDS, remove_shards, save_shards
from neurocli.core.engine.parallel.team import current_team
from neurocli.core.engine.rows import evaluate_part
from neurocli.core.engine.runtime import StopSignal, pick_device
from neurocli.core.engine.state import Best, RunState, plan_run
from neurocli.core.engine.step import count_bad, take_step
from neurocli.core.engine.task import PrimaryMetric, RunData, SampleSet, Task
from neurocli.core.errors import ExitCode, NeuroError, StoppedError
from neurocli.core.events import CheckpointSaved, EvalDone, Listener, Note, RunStarted, StepDone

Reason = Literal["completed", "early_stop"]
_TRAIN_LOSS = PrimaryMetric("loss", "min")
_OTHER_RANKS = (
    "the run was saved by {} processes and goes on with {}: order and state are the same, sums are "
    "rounded otherwise, and random draws of layers (dropout) are others"
)


class Trainer:
    """Carry one run from where it is to its end, an epoch at a time.

    Args:
        task: Owner of the maths.
        model: The model to train.
        data: The opened data.
        config: The run's configuration.
        run_dir: The run folder.
        listener: Told of every step, judgement and checkpoint.
        stop: Raised by signals.
        extra: Plain values to keep in every checkpoint.

    Raises:
        NeuroError: There is nothing to train on, or `extra` holds more than plain values.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        data: RunData,
        config: RunConfig,
        *,
        run_dir: Path,
        listener: Listener,
        stop: StopSignal,
        extra: Mapping[str, Any],
    ) -> None:
        check_plain({**extra, "task_state": task.state_dict()}, where="checkpoint")
        self._config, self._run_dir, self._extra = config, run_dir, extra
        self._tell, self._stop = listener, stop
        self._team = current_team()
        self._samples = _training_part(data)
        self._judged = data.parts.get("val")
        self._metric = task.primary_metric if self._judged is not None else _TRAIN_LOSS
        batches = self._batches(0, 0)
        check_shares(self._team, [batches.size(number) for number in batches.numbers], task, model)
        plan = plan_run(config.train, len(batches))
        device = pick_device(config.run.device)
        best = Best(self._metric.name, "train" if self._judged is None else "val")
        self.state = RunState(task, model, config, device=device, plan=plan, best=best)

    def open(self, resume: Mapping[str, Any] | None) -> None:
        """Start the run or take it up again, and tell so.

        A fresh run saves before its first step: a disk that refuses is met before the work, and a
        run killed in its first epoch can be resumed like any other.

        Args:
            resume: Payload of a checkpoint of this run; None starts anew.

        Raises:
            NeuroError: The payload does not fit, or the disk refuses.
        """
        state, team = self.state, self._team
        state.start(resume)
        started = RunStarted(
            run_dir=str(self._run_dir),
            model=self._config.model.name,
            n_parameters=state.n_trained,
            total_steps=state.plan.n_steps,
            start_step=state.progress.step,
            context={
                "start_epoch": state.progress.epoch,
                "device": str(state.device),
                "precision": state.precision.name,
                "steps_per_epoch": state.plan.steps_per_epoch,
                **({} if team.is_alone else {"ranks": team.n_ranks, "parallel": team.strategy}),
            },
        )
        self._tell(started)
        if resume is not None and (before := state.ranks_before(resume)) != team.n_ranks:
            self._tell(Note(_OTHER_RANKS.format(before, team.n_ranks), "warning"))
        if resume is None:
            # The best of an abandoned run must not pass for this one's.
            team.first_does(self._clear)
            self.save(LAST)
            self._judge_start()

    def _clear(self) -> None:
        for name in (LAST, PREVIOUS, BEST):
            self.path(name).unlink(missing_ok=True)
        remove_shards(self.path(SHARDS))

    def _judge_start(self) -> None:
        """Make the first weights the best so far, where they are a result of their own."""
        if not self.state.task.starts_trained or self._judged is None:
            return
        value = float(self._judge(0, self._judged)[self._metric.name])
        self.state.best = replace(self.state.best, value=value, epoch=0)
        self.save(BEST)

    def path(self, name: str) -> Path:
        """Return the path of a checkpoint of this run."""
        return self._run_dir / "checkpoints" / name

    def reason_to_end(self) -> Reason | None:
        """Return why the run is over, or None; a function of the saved state alone."""
        progress, patience = self.state.progress, self._config.train.early_stop
        if progress.batch > 0:  # stopped inside an epoch, or before its judgement
            return None
        if progress.step >= self.state.plan.n_steps:
            return "completed"
        stale = progress.epoch - (self.state.best.epoch or 0)
        if patience is not None and stale >= patience and self._is_due(progress.epoch):
            return "early_stop"
        return None

    def train_epoch(self) -> None:
        """Take the steps that are left of the epoch under way.

        Raises:
            NeuroError: The loss is not finite too often.
            StoppedError: A signal came; the state is between two steps.
        """
        state, progress, plan = self.state, self.state.progress, self.state.plan
        state.set_training()
        batches = self._batches(progress.epoch, progress.batch)
        with contextlib.closing(iter(batches)) as stream:
            while progress.batch < plan.n_batches and progress.step < plan.n_steps:
                self._check_stop()
                last = min(progress.batch + plan.accumulate, plan.n_batches)
                numbers = range(progress.batch, last)
                sizes = [batches.size(number) for number in numbers]
                own = [batches.own_size(number) for number in numbers]
                result = take_step(state, itertools.islice(stream, len(sizes)), sizes, own)
                # A skipped step counts too: position and schedule stay functions of each other.
                progress.batch = last
                progress.step += 1
                if result.is_applied:
                    progress.loss_sum += result.logs["loss"] * sum(sizes)
                    progress.n_samples += sum(sizes)
                self._tell(StepDone(progress.step, progress.epoch + 1, result.logs))
                count_bad(state, result, self._tell)
                self._save_if_due()

    def close_epoch(self) -> None:
        """Judge the epoch, keep the best, save.

        Raises:
            NeuroError: The judgement failed; the trained epoch is saved all the same.
            StoppedError: A signal came during the judgement, which a resumed run repeats.
        """
        state, progress = self.state, self.state.progress
        epoch = progress.epoch + 1
        losses = {"loss": progress.mean_loss}
        self._tell(EvalDone(progress.step, epoch, "train", losses))
        if self._is_due(epoch) or progress.step >= state.plan.n_steps:
            metrics = losses if self._judged is None else self._judge(epoch, self._judged)
            value = float(metrics[self._metric.name])
            if self._metric.is_better(value, state.best.value):
                state.best = replace(state.best, value=value, epoch=epoch)
                # Before last.pth: killed between the two, a resumed run judges and writes it again.
                self.save(BEST)
        progress.close_epoch()
        self.save(LAST)

    def save(self, name: str) -> None:
        """Write a checkpoint; the best keeps weights only, the last keeps a generation."""
        is_best = name == BEST
        payload = {**self._extra, **self.state.payload(weights_only=is_best)}
        path = self.path(name)

        def write() -> None:
            save_checkpoint(path, payload, keep_previous=not is_best)
            if not is_best:
                remove_shards(self.path(SHARDS))  # older than this one

        self._team.first_does(write)
        self._tell(CheckpointSaved(str(path), self.state.progress.step, is_best))

    def _judge(self, epoch: int, samples: SampleSet) -> Mapping[str, float]:
        state = self.state
        try:
            with state.averaged(), state.holder.judged() as model:
                summary = evaluate_part(
                    state.task,
                    model,
                    samples,
                    self._config,
                    state.device,
                    self._tell,
                    check_stop=lambda: self._raise_if(self._stop.code),
                )
            if self._metric.name not in summary.metrics:
                raise NeuroError(
                    f"no metric '{self._metric.name}' among {', '.join(summary.metrics)}",
                    where=f"{type(state.task).__name__}.summarise",
                )
        except StoppedError:
            raise
        except Exception:
            # Hours of steps must not be lost to a judgement that fails; a resumed run repeats it.
            self.save(LAST)
            raise
        self._tell(EvalDone(state.progress.step, epoch, "val", summary.metrics))
        return summary.metrics

    def _batches(self, epoch: int, start: int) -> Batches:
        return Batches(
            self._samples,
            batch_size=self._config.data.batch_size,
            seed=self._config.run.seed,
            epoch=epoch,
            shuffle=True,
            start=start,
            prefetch=self._config.data.prefetch,
            share=Share(self._team.data_rank, self._team.n_shares),
        )

    def _is_due(self, epoch: int) -> bool:
        return epoch % self._config.train.eval_every_epochs == 0

    def _save_if_due(self) -> None:
        every = self._config.run.checkpoint_every_steps
        if every is None or self.state.progress.step % every:
            return
        if not (self._config.train.sharded_saves and self._save_in_shards()):
            self.save(LAST)

    def _save_in_shards(self) -> bool:
        with self.state.holder.in_shards() as is_sharded:
            if is_sharded:
                payload = {**self._extra, **self.state.payload()}
                save_shards(self.path(SHARDS), payload, self._team)
                path = str(self.path(SHARDS))
                self._tell(CheckpointSaved(path, self.state.progress.step, is_best=False))
        return is_sharded

    def _check_stop(self) -> None:
        """Stop on every rank at the same step, whichever was told."""
        code = self._team.largest(int(self._stop.code or 0))
        self._raise_if(ExitCode(code) if code else None)

    def _raise_if(self, code: ExitCode | None) -> None:
        if code is not None:
            raise StoppedError(
                f"stopped after step {self.state.progress.step} of {self.state.plan.n_steps}; "
                f"the state is in {self.path(LAST)}",
                hint=f"neuro train --resume {shlex.quote(str(self._run_dir))}",
                code=code,
            )


def _training_part(data: RunData) -> SampleSet:
    samples = data.drawn or data.parts.get("train")
    if samples is None or len(samples) == 0:
        raise NeuroError(
            "nobody is in the training part",
            where="--split",
            hint="give more subjects, or a split whose train list names some of them",
        )
    return samples
