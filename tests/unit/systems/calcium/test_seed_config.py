"""The described configuration is accepted unchanged, and what it contradicts is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocli.core.config.load import resolve_config
from neurocli.core.errors import ConfigError

TEXT = """
dataset:
  name: allen_brain_observatory_calcium
  data_dir: data
  file_pattern: "*.h5"
  splits: {train: train_mask, valid: valid_mask, test: test_mask}
  neural: {dataset_key: calcium_traces/df_over_f, dtype: float32, normalize: true}
  temporal:
    domain_start_key: calcium_traces/domain/start
    domain_end_key: calcium_traces/domain/end
    use_timestamps: true
  sessions: {max_sessions: null, session_ids: null}
model:
  architecture: offset10-model
  model_architecture: offset10-model
  output_dimension: 32
  learning_mode: time_contrastive
  conditional: time_delta
  batch_size: 4
  learning_rate: 3.0e-4
  temperature: 1.0
  max_iterations: 5000
  distance: cosine
  device: cuda_if_available
  verbose: true
dataloader: {batch_size: 4, num_workers: 0, shuffle: true, drop_last: false, num_steps: 10,
  time_offset: 10}
training:
  max_epochs: 100
  early_stopping: {enabled: true, patience: 10, min_delta: 0.001}
  checkpoint: {enabled: true, save_dir: checkpoints, save_frequency: 10}
  validation: {enabled: true, frequency: 5}
output:
  save_dir: results
  save_embeddings: true
  save_model: true
  visualize: {enabled: true, plot_loss: true, plot_embeddings: true}
seed: 42
deterministic: true
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "allen_config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_is_taken(tmp_path: Path) -> None:
    config = resolve_config(model="cebra", config=write(tmp_path, TEXT)).config
    plain = config.model_dump()
    assert plain["model"] == {"name": "cebra", "encoder": "offset10", "output_dim": 32,
                              "hidden_dim": 32, "neuron_dropout": 0.0}  # fmt: skip
    assert (plain["data"]["batch_size"], plain["data"]["path"]) == (4, "data")
    assert plain["task"]["objective"] == "time"
    assert plain["task"]["time_offsets"] == (10,)
    assert (plain["train"]["steps"], plain["train"]["epochs"]) == (5000, 100)
    assert (plain["train"]["lr"], plain["train"]["early_stop"]) == (3e-4, 10)
    assert plain["run"]["seed"] == 42


def test_contradictions_name_both_places(tmp_path: Path) -> None:
    text = TEXT.replace("batch_size: 4, num", "batch_size: 8, num")
    with pytest.raises(ConfigError, match=r"dataloader.batch_size: says 8, .* says 4"):
        resolve_config(model="cebra", config=write(tmp_path, text))


def test_an_unknown_key_gets_a_suggestion(tmp_path: Path) -> None:
    text = TEXT.replace("learning_rate", "learning_rte")
    with pytest.raises(ConfigError, match=r"did you mean model.learning_rate"):
        resolve_config(model="cebra", config=write(tmp_path, text))


def test_a_file_of_ours_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {hidden_dim: 48}\n")
    resolved = resolve_config(model="cebra", config=path)
    assert resolved.config.model_dump()["model"]["hidden_dim"] == 48
    assert resolved.config.train.warmup == 0.05
