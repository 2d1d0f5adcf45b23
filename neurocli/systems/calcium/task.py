"""The objective of this room: windows that belong together lie together (InfoNCE over a prior).

One class serves positives by labels, by time, and both. Traces are scaled with mean and standard
deviation of the training part, which the checkpoint keeps.

Letters: B references per session, S sessions, L frames of a window, N neurons, D outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import (
    BaselineRows,
    Batch,
    Explainer,
    PrimaryMetric,
    Rows,
    RunData,
    SampleSet,
    StepOutput,
    Summary,
    Task,
)
from neurocli.core.errors import UsageError
from neurocli.core.events import Listener, Note
from neurocli.core.nn.contrastive import prior_info_nce
from neurocli.core.nn.gathered import gather
from neurocli.systems.calcium.baselines import baseline_rows
from neurocli.systems.calcium.config import CalciumDataBlock, CalciumTaskBlock, EncoderConfig
from neurocli.systems.calcium.judging import Judgement
from neurocli.systems.calcium.models.encoder import SessionEncoders
from neurocli.systems.calcium.samples import PieceSet, SlotSet
from neurocli.systems.calcium.scaling import Scaler, fit_scaler

_INPUTS = "inputs."


def _everybody(own: Tensor) -> Tensor:
    """Return vectors (S, B, D) of all processes from this one's, in the order of the draw."""
    return gather(own.transpose(0, 1)).transpose(0, 1)


class EmbeddingTask(Task):
    """Learn embeddings from pairs of windows.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self._scalers: list[Scaler] = []
        self._objective = "labels"
        self._judged_scale = 1 / cast(CalciumTaskBlock, config.task).temperature

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the held-out loss over fixed pairs, small is good."""
        return PrimaryMetric("infonce", "min")

    def fit(self, data: RunData) -> None:
        """Learn the scale of every neuron from the training part."""
        slots = cast(SlotSet, data.parts["train"])
        kind = cast(CalciumDataBlock, self.config.data).scaling
        self._scalers = [fit_scaler(session, kind) for session in slots.recordings.sessions]
        self._objective = data.objective

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the loss of a batch, and the temperature where it is learned."""
        encoders = cast(SessionEncoders, model)
        dense = self._dense(encoders, batch["rows"]) if "rows" in batch else None
        losses = []
        logs: dict[str, float] = {}
        for name, draw in batch["draws"].items():
            parts = [
                self._embedded(encoders, int(number), taken, dense)
                for number, taken in draw["taken"].items()
            ]
            kept = [self._outputs(part, name) for part in parts]
            losses.append(self._loss(encoders, kept, draw["align"]))
        if encoders.log_scale is not None:
            with torch.no_grad():
                logs["temperature"] = float(1 / self._scale(encoders))
        return StepOutput(sum(losses[1:], losses[0]), logs)

    def _dense(self, model: SessionEncoders, rows: Mapping[int, Tensor]) -> dict[int, Tensor]:
        return {number: self._embed(model, own[None], number)[0] for number, own in rows.items()}

    def _embedded(
        self, model: SessionEncoders, number: int, taken: Tensor, dense: dict[int, Tensor] | None
    ) -> Tensor:
        """Return embeddings (3, B, D) of references, positives and negatives."""
        if dense is not None:
            found = dense[number][taken]
        else:
            found = self._embed(model, taken, number)[:, 0]
        return found.view(3, -1, found.shape[-1])

    def _embed(self, model: SessionEncoders, rows: Tensor, number: int) -> Tensor:
        """Return embeddings along raw traces (B, T, N), with neurons hidden while training."""
        scaler = self._scalers[number]
        factor, shift = scaler.factor.to(rows.device), scaler.shift.to(rows.device)
        share = cast(EncoderConfig, self.config.model).neuron_dropout
        if not model.training or share == 0:
            return model.along(rows, number, (factor, shift))
        # One mask per window: a neuron is hidden in all its frames.
        mask = torch.rand(rows.shape[0], 1, rows.shape[2], device=rows.device) >= share
        kept = mask / (1 - share)
        return model.along(torch.addcmul(shift * kept, rows, factor * kept), number)

    def _outputs(self, embedded: Tensor, name: str) -> Tensor:
        """Return the outputs of one objective: all, or its own of a hybrid."""
        if self._objective != "hybrid":
            return embedded
        task = cast(CalciumTaskBlock, self.config.task)
        n_time = task.time_dims or embedded.shape[-1] // 2
        own = embedded[..., -n_time:] if name == "time" else embedded[..., :-n_time]
        return F.normalize(own, dim=-1) if task.distance == "cosine" else own

    def _scale(self, model: SessionEncoders) -> Tensor | float:
        task = cast(CalciumTaskBlock, self.config.task)
        if model.log_scale is None:
            return 1 / task.temperature
        return model.log_scale.exp().clamp(max=1 / task.min_temperature)

    def _loss(self, model: SessionEncoders, parts: list[Tensor], align: Tensor | None) -> Tensor:
        distance = cast(CalciumTaskBlock, self.config.task).distance
        ref, pos, neg = torch.stack(parts).unbind(1)
        # Of several processes each has its references; what they are compared with is everybody's.
        neg = _everybody(neg)
        if align is not None:
            ref, neg = ref.flatten(0, 1), neg.flatten(0, 1)
            pos = _everybody(pos).flatten(0, 1)[align]
        return prior_info_nce(ref, pos, neg, self._scale(model), distance=distance)

    @property
    def mixes_samples(self) -> bool:
        """Return True: negatives belong to the whole batch."""
        return True

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row per segment: the embedding of each window beside its labels."""
        encoders = cast(SessionEncoders, model)
        rows: Rows = []
        scale = self._judged_scale = float(self._scale(encoders))
        for number, sample in enumerate(batch["samples"]):
            piece = sample["piece"]
            traces = batch["rows"][number][None]
            embedding = self._embed(encoders, traces, piece.session)[0].float().cpu().numpy()
            rows.append(
                {
                    "participant": batch["participant"][number],
                    "subject": batch["subject"][number],
                    "start": piece.start,
                    "piece": piece,
                    "embedding": embedding,
                    "scale": scale,
                    "about": batch["about"],
                    **{key: sample[key] for key in ("centre", "time_s", "labels", "key", "value")},
                }
            )
        return rows

    def summarise(self, rows: Rows) -> Summary:
        """Return loss, goodness of fit, decoding, consistency, nulls and embeddings."""
        return self._judgement(rows).summary()

    def summarise_baseline(self, rows: Rows) -> Summary:
        """Return the judgement of features of a plain method, without controls or embeddings."""
        return self._judgement(rows).summary(is_baseline=True)

    def _judgement(self, rows: Rows) -> Judgement:
        return Judgement(
            rows,
            self._objective,
            cast(CalciumTaskBlock, self.config.task),
            n_refs=cast(CalciumDataBlock, self.config.data).batch_size,
        )

    def baseline_rows(
        self, train: SampleSet, judged: Sequence[SampleSet], listener: Listener
    ) -> BaselineRows:
        """Return scaled frames and principal components of windows in the embedding's place."""
        model = cast(EncoderConfig, self.config.model)
        listener(Note("fitting principal components of windows, for comparison"))
        # Bits at another temperature than the model's, learned or told, cannot be compared.
        scale = self._judged_scale
        return baseline_rows(train, judged, self._scalers, model.output_dim, scale=scale)

    def prediction_rows(self, rows: Rows) -> Rows:
        """Return one row per judged window: time and what was decoded."""
        return self._judgement(rows).window_table()

    def explainer(
        self, method: str, samples: Sequence[SampleSet], train: SampleSet | None
    ) -> Explainer:
        """Return what scores the neurons that the embedding follows.

        Raises:
            UsageError: The method is unknown.
        """
        from neurocli.systems.calcium.explain import NeuronExplainer

        del train
        return NeuronExplainer(method, [cast(PieceSet, part) for part in samples], self._scalers)

    def embed_step(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Refuse: embeddings are among the files of every evaluation.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "embeddings of every session are written anyway, under embeddings/ of the output",
            where="--embeddings",
            hint="leave the option out",
        )

    def init_from(self, model: nn.Module, weights: Mapping[str, Tensor]) -> str:
        """Take the trunk, and input layers where the neurons are as many.

        Raises:
            NeuroError: The trunk does not fit.
        """
        from neurocli.core.engine.weights import load_weights

        own = model.state_dict()
        taken = {
            name: value
            for name, value in weights.items()
            if not name.startswith(_INPUTS) or (name in own and own[name].shape == value.shape)
        }
        if cast(SessionEncoders, model).log_scale is None:
            taken.pop("log_scale", None)
        frozen = self.config.train.freeze
        if frozen:  # an unseen session has neurons of its own, even when they are as many
            taken = {n: v for n, v in taken.items() if not n.startswith(_INPUTS)}
        # A trunk that the weights lack must not stay as it was drawn, least of all frozen.
        fresh = {
            name: value
            for name, value in own.items()
            if name not in taken and (name.startswith(_INPUTS) or name == "log_scale")
        }
        load_weights(model, {**fresh, **taken}, label="--init-from")
        n_fresh = len({name.split(".")[1] for name in fresh if name.startswith(_INPUTS)})
        text = f"{len(taken)} of {len(weights)} tensors were taken"
        return text + (f"; {n_fresh} input layers start anew" if n_fresh else "")

    def state_dict(self) -> dict[str, Any]:
        """Return the scales of neurons and the objective."""
        return {
            "objective": self._objective,
            "scalers": [{"factor": s.factor, "shift": s.shift} for s in self._scalers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._objective = str(state["objective"])
        self._scalers = [Scaler(own["factor"], own["shift"]) for own in state["scalers"]]
