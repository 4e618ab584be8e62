"""Checkpoints and the log: whole or not there."""

import errno
import json

import pytest
import torch

from mambaout_edu.training import checkpoints
from mambaout_edu.training.checkpoints import (
    CheckpointNotWritten,
    Checkpoints,
    TornCheckpoint,
    read_checkpoint,
    write_checkpoint,
)
from mambaout_edu.training.run_log import RunLog, read_log

STATE = {"step": 7, "model": {"w": torch.arange(5.0)}, "ema": None, "optimizer": {"betas": (0.9, 0.99)}}


def test_what_is_written_comes_back(tmp_path):
    found = read_checkpoint(write_checkpoint(tmp_path, 7, STATE))
    assert torch.equal(found.pop("model")["w"], STATE["model"]["w"])
    assert found == {"step": 7, "ema": None, "optimizer": {"betas": (0.9, 0.99)}}
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "grown"])
def test_a_torn_file_is_never_read(tmp_path, harm):
    path = write_checkpoint(tmp_path, 7, STATE)
    content = bytearray(path.read_bytes())
    if harm == "flipped":
        content[len(content) // 2] ^= 1
    harmed = {"cut": content[:-9], "empty": b"", "grown": content + b"x"}.get(harm, content)
    path.write_bytes(bytes(harmed))
    with pytest.raises(TornCheckpoint, match="does not have the checksum in its name"):
        read_checkpoint(path)


def test_the_one_before_a_torn_one_is_used_and_said(tmp_path):
    kept = Checkpoints(tmp_path)
    good = kept.save({"step": 1}, 1)
    kept.save({"step": 2}, 2).write_bytes(b"half")
    with pytest.warns(RuntimeWarning, match="is torn.*the one before it is used"):
        assert kept.latest() == good
    assert [path.name[:13] for path, _ in kept.torn] == ["step_00000002"]
    good.write_bytes(b"")
    with pytest.warns(RuntimeWarning):
        assert kept.latest() is None


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    kept = Checkpoints(tmp_path, keep=2)
    for step, score in enumerate([0.2, 0.8, 0.5, 0.6, 0.7], 1):
        kept.save({"step": step}, step, score)
    assert [read_checkpoint(path)["step"] for path in kept.files()] == [2, 4, 5]
    again = Checkpoints(tmp_path, keep=2)  # from the folder alone
    assert read_checkpoint(again.best())["step"] == 2
    assert read_checkpoint(again.latest())["step"] == 5
    again.best().write_bytes(b"")
    assert again.best() is None
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpoints(tmp_path, keep=0)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    good = kept.save({"step": 1}, 1, 0.5)
    before = sorted(path.name for path in tmp_path.iterdir())

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(CheckpointNotWritten, match=r"step 2 could not be written \(No space left.*make room") as caught:
        kept.save({"step": 2}, 2, 0.9)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert kept.latest() == kept.best() == good


def test_other_files_are_no_checkpoints(tmp_path):
    (tmp_path / "step_1.pt").write_bytes(b"")
    assert Checkpoints(tmp_path).files() == []
    with pytest.raises(TornCheckpoint, match="is not the name"):
        read_checkpoint(tmp_path / "step_1.pt")


def lines(log, *steps):
    for step in steps:
        log.write({"kind": "step", "step": step, "loss": 1.0 / step})


def test_a_log_goes_on_without_a_hole_or_a_double(tmp_path):
    log = RunLog(tmp_path)
    log.write({"kind": "run", "total_steps": 9})
    lines(log, 1, 2, 3, 4)
    log.write({"kind": "event", "step": 4, "what": "stopped", "detail": "\u2028 a line separator"})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # killed while it wrote
    assert len(read_log(tmp_path).steps) == 4
    again = RunLog(tmp_path, resume_at=2)
    lines(again, 3, 4, 5)
    again.close()
    again.close()
    found = read_log(tmp_path)
    assert [line["step"] for line in found.steps] == [1, 2, 3, 4, 5]
    assert (found.run["total_steps"], found.events) == (9, [])
    assert repr(found) == "Log(5 steps, 0 evaluations, 0 events)"


def test_a_log_that_was_changed_is_refused(tmp_path):
    log = RunLog(tmp_path)
    lines(log, 1, 3)
    log.close()
    with pytest.raises(ValueError, match="every step from 1 to 3 once"):
        RunLog(tmp_path, resume_at=3)
    with pytest.raises(FileExistsError, match="resume that run"):
        RunLog(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"kind": "step", "step": 1}\nhello\n{"kind": "step", "step": 2}\n')
    with pytest.raises(ValueError, match=r"line 2 .* is no JSON"):
        read_log(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no log\.jsonl"):
        read_log(tmp_path / "nowhere")


def test_infinite_numbers_are_written_as_none(tmp_path):
    log = RunLog(tmp_path)
    log.write({"kind": "step", "step": 1, "loss": float("nan")})
    log.close()
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] is None
