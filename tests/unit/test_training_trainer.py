"""A run that is stopped, killed or spread over processes ends as one that was not; what goes wrong is said."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mambaout_edu.data import ImageSet
from mambaout_edu.training import run_loop
from mambaout_edu.training.checkpoints import CheckpointNotWritten, Checkpoints, read_checkpoint
from mambaout_edu.training.loaders import TooManyBadImages
from mambaout_edu.training.recipe import recipe
from mambaout_edu.training.run_log import read_log
from mambaout_edu.training.sources import Source
from mambaout_edu.training.trainer import launch, resume, train

pytest.importorskip("accelerate")

PLAN = recipe(
    "digits_cpu", epochs=3, warmup_epochs=1, batch_size=16, accumulate=2, mixup=0.2, cutmix=0.5, clip=1.0,
    ema_decay=0.9, checkpoint_every_steps=2, log_every=3,
)  # fmt: skip


def pictures(count=64, classes=4):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    images = torch.rand(count, 1, 8, 8, generator=generator) * 0.5 + labels[:, None, None, None] / (2 * classes)
    return ImageSet(images, labels, tuple("abcd"[:classes]))


def sources():
    return Source.of(pictures()), Source.of(pictures(32))


class Small(nn.Module):
    """A network with dropout, so that a draw in another order would show."""

    def __init__(self, classes=4):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.hidden = nn.Linear(64, 16)
            self.head = nn.Linear(16, classes)
        self.drop = nn.Dropout(0.2)

    def forward(self, images):
        return self.head(self.drop(torch.relu(self.hidden(images.flatten(1)))))


def begin(folder, plan=PLAN, model=None, **arguments):
    return train(model or Small(), sources(), plan, folder, progress=False, **arguments)


def go_on(folder, **arguments):
    return resume(folder, model=Small(), data=sources(), progress=False, **arguments)


def weights(run):
    return torch.cat([p.detach().flatten() for module in (run.model, run.ema) if module for p in module.parameters()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing disturbs: 12 updates."""
    return begin(tmp_path_factory.mktemp("whole") / "run")


def test_a_run_leaves_all_there_is_to_know(whole):
    assert {"recipe.json", "run.json", "log.jsonl", "checkpoints", "card.json"} <= {
        path.name for path in whole.folder.iterdir()
    }
    assert [line["step"] for line in whole.log.steps] == list(range(1, 13))
    assert [line["step"] for line in whole.log.evals] == [4, 8, 12]
    assert all(line["ema"] for line in whole.log.evals)
    assert whole.log.run["total_steps"] == 12
    assert whole.log.events[-1]["what"] == "finished"
    assert whole.accuracy == whole.log.evals[-1]["accuracy"] > 0.25
    assert whole.log.steps[-1]["loss"] < whole.log.steps[0]["loss"]
    assert re.fullmatch(r"Run\(12 steps, accuracy [\d.]+%\)", repr(whole))
    assert read_log(whole.folder).steps == whole.log.steps


@pytest.mark.parametrize("at", [1, 4, 7])
def test_stopped_and_resumed_it_ends_bit_for_bit_the_same(whole, tmp_path, at):
    first = begin(tmp_path / "run", max_steps=at)
    assert len(first.log.steps) == at
    run = go_on(tmp_path / "run")
    assert torch.equal(weights(run), weights(whole))
    assert [line["loss"] for line in run.log.steps] == [line["loss"] for line in whole.log.steps]
    assert [line["lr"] for line in run.log.steps] == [line["lr"] for line in whole.log.steps]
    assert [line["step"] for line in run.log.evals] == [4, 8, 12]
    assert "resumed" in [line["what"] for line in run.log.events]


def test_torchs_generator_is_left_as_it_was(tmp_path):
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    begin(tmp_path / "run", max_steps=1)
    assert torch.equal(torch.rand(3), before)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_training_trainer import *
from mambaout_edu.training.checkpoints import Checkpoints
torch.set_num_threads(1)
folder = Path(sys.argv[1])
while not (go := (Checkpoints(folder / "checkpoints").files() or folder.exists())) and len(sys.argv) > 2:
    break
(go_on if Checkpoints(folder / "checkpoints").files() else begin)(folder, on_log=lambda line: time.sleep(0.02))
"""


def child(folder):
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_steps(folder, process, least):
    log = folder / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count('"kind": "step"') >= least):
        time.sleep(0.005)


def killed_and_resumed(whole, folder, moments):
    """Kill a run with SIGKILL after so many logged steps and a random while, then let it end."""
    wild = random.Random(moments)
    least = 1
    for _ in range(moments):
        process = child(folder)
        wait_for_steps(folder, process, least)
        time.sleep(wild.random() * 0.15)
        process.kill()
        process.communicate()
        least = min(10, least + 1)
    files = Checkpoints(folder / "checkpoints").files()
    assert all(read_checkpoint(path)["step"] >= 0 for path in files)  # none is torn
    run = go_on(folder)
    assert torch.equal(weights(run), weights(whole))
    assert [line["step"] for line in read_log(folder).steps] == list(range(1, 13))
    assert [line["loss"] for line in run.log.steps] == [line["loss"] for line in whole.log.steps]


def test_killed_twice_it_ends_bit_for_bit_the_same(whole, tmp_path):
    killed_and_resumed(whole, tmp_path / "run", 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_twenty_moments_it_ends_bit_for_bit_the_same(whole, tmp_path):
    killed_and_resumed(whole, tmp_path / "run", 20)


def test_no_checkpoint_is_ahead_of_its_log(tmp_path, monkeypatch):
    """Killed right after a checkpoint, a run must find all its steps in the log."""
    save, ahead = run_loop.Checkpoints.save, []

    def looked(self, state, step, score=None):
        ahead.append(step - len(read_log(self.folder.parent).steps))
        return save(self, state, step, score)

    monkeypatch.setattr(run_loop.Checkpoints, "save", looked)
    begin(tmp_path / "run")
    assert len(ahead) == 7  # at the start, every second step, an epoch's end among them
    assert set(ahead) == {0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(whole, tmp_path, number):
    def stop(line):
        if line["kind"] == "step" and line["step"] == 5:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(signal.SIGTERM)
    run = begin(tmp_path / "run", on_log=stop)
    assert run.interrupted
    assert signal.getsignal(signal.SIGTERM) is handler
    last = run.log.events[-1]
    assert (last["what"], last["detail"]) == ("stopped", number.name)
    assert len(run.log.steps) < 12
    assert torch.equal(weights(go_on(tmp_path / "run")), weights(whole))


def test_outside_the_main_thread_it_runs_without_signals(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(begin(tmp_path / "run", max_steps=1)))
    thread.start()
    thread.join()
    assert len(found[0].log.steps) == 1


def test_a_full_disk_stops_and_the_run_can_go_on(whole, tmp_path, monkeypatch):
    write, calls = run_loop.Checkpoints.save, []

    def full(self, state, step, score=None):
        calls.append(step)
        if step == 6:
            raise CheckpointNotWritten(28, "No space left on device")
        return write(self, state, step, score)

    monkeypatch.setattr(run_loop.Checkpoints, "save", full)
    with pytest.raises(CheckpointNotWritten, match="No space left"):
        begin(tmp_path / "run")
    monkeypatch.undo()
    assert 6 in calls
    assert torch.equal(weights(go_on(tmp_path / "run")), weights(whole))


def test_a_torn_checkpoint_is_passed_over_and_the_log_says_so(whole, tmp_path):
    begin(tmp_path / "run", max_steps=7)
    last = Checkpoints(tmp_path / "run" / "checkpoints").files()[-1]
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(RuntimeWarning, match="is torn"):
        run = go_on(tmp_path / "run")
    assert torch.equal(weights(run), weights(whole))
    assert [line["what"] for line in run.log.events][:2] == ["torn_checkpoint", "resumed"]


def test_a_changed_recipe_is_refused_but_for_what_changes_nothing(whole, tmp_path):
    begin(tmp_path / "run", max_steps=3)
    with pytest.raises(ValueError, match="seed: 0 before, 3 now"):
        go_on(tmp_path / "run", recipe=PLAN.with_(seed=3))
    run = go_on(tmp_path / "run", recipe=PLAN.with_(log_every=1, keep_checkpoints=5))
    assert torch.equal(weights(run), weights(whole))


def test_other_data_are_refused(tmp_path):
    begin(tmp_path / "run", max_steps=1)
    with pytest.raises(ValueError, match="images = 64, now there are 48"):
        resume(tmp_path / "run", model=Small(), data=(Source.of(pictures(48)), sources()[1]), progress=False)
    with pytest.raises(ValueError, match="hand them over again"):
        resume(tmp_path / "run", model=Small(), progress=False)
    with pytest.raises(ValueError, match="hand it over again"):
        resume(tmp_path / "run", data=sources(), progress=False)


def test_a_missing_root_and_a_folder_without_a_run_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        train("mambaout_pico_8", f"folder:{tmp_path / 'gone'}", PLAN, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match=r"it has no recipe\.json"):
        resume(tmp_path)
    (tmp_path / "note").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        begin(tmp_path)
    with pytest.raises(ValueError, match="num_classes is 3, but"):
        train("mambaout_pico_8", "digits", PLAN, tmp_path / "run", model_options={"num_classes": 3})
    with pytest.raises(ValueError, match="built already"):
        begin(tmp_path / "run", model_options={"depth": 3})
    with pytest.raises(ValueError, match="GPUs; expected one for each"):
        launch(99, "mambaout_pico_8", "digits", PLAN, tmp_path / "run")


class Broken:
    """A data set of which some pictures cannot be read."""

    def __init__(self, broken):
        self.whole, self.broken = Source.of(pictures()).dataset, broken

    def __len__(self):
        return len(self.whole)

    def __getitem__(self, index):
        if index in self.broken:
            raise OSError("image file is truncated")
        return self.whole[index]


def test_broken_images_are_listed_and_too_many_stop(tmp_path):
    data = (Source(Broken({3, 40}), tuple("abcd"), "broken"), sources()[1])
    run = train(Small(), data, PLAN.with_(epochs=2, warmup_epochs=0), tmp_path / "run", progress=False)
    told = [line["detail"] for line in run.log.events if line["what"] == "bad_image"]
    assert sorted(set(told)) == ["3: image file is truncated", "40: image file is truncated"]
    plan = PLAN.with_(max_bad_images=1)
    with pytest.raises(TooManyBadImages, match="image file is truncated"):
        train(Small(), data, plan, tmp_path / "other", progress=False)
    assert read_log(tmp_path / "other").events[-1]["what"] == "stopped"
    assert Checkpoints(tmp_path / "other" / "checkpoints").latest() is not None


class Explodes(Small):
    """Its hidden layer overflows from the sixth update on, if told so by the images' number."""

    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, 0
        self.scale = Scale(self)

    def forward(self, images):
        self.seen += self.training
        return self.head(self.scale(torch.relu(self.hidden(images.flatten(1)))))


class Scale(nn.Module):
    def __init__(self, owner):
        super().__init__()
        self.owner = [owner]  # in a list: not a part of this module

    def forward(self, hidden):
        return hidden * (float("inf") if self.owner[0].seen > self.owner[0].at else 1.0)


@pytest.mark.parametrize("watches", [True, False])
def test_a_loss_that_is_not_finite_names_step_and_layer(tmp_path, monkeypatch, watches):
    """Without watching, as on a GPU, it is found out afterwards by making the updates again."""
    model = Explodes(at=10)  # two batches an update: the sixth
    start = run_loop.Loop.__init__

    def unwatched(self, *args, **kwargs):
        start(self, *args, **kwargs)
        self.watches = watches

    monkeypatch.setattr(run_loop.Loop, "__init__", unwatched)
    load = run_loop.Loop.load

    def rewound(self, state):
        load(self, state)
        model.seen = state["step"] * 2  # what the model does follows from the step

    monkeypatch.setattr(run_loop.Loop, "load", rewound)
    plan = PLAN.with_(ema_decay=None, mixup=0.0, cutmix=0.0, checkpoint_every_steps=None)
    with pytest.raises(
        FloatingPointError, match=r"loss of step 6 is not finite: the output of layer 'scale' \(Scale\)"
    ):
        begin(tmp_path / "run", plan, model)
    assert read_log(tmp_path / "run").events[-1]["what"] == "nan"
    state = read_checkpoint(Checkpoints(tmp_path / "run" / "checkpoints").latest())
    assert state["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_images_or_weights_that_are_not_finite_are_named(tmp_path):
    model = Small()
    model.hidden.weight.data[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"after step 0 the weights 'hidden\.weight'"):
        begin(tmp_path / "run", model=model)
    images = pictures()
    images.images[5, 0, 0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match="images of this batch"):
        train(Small(), (Source.of(images), sources()[1]), PLAN.with_(affine=None), tmp_path / "b", progress=False)


def test_a_dead_reading_process_is_said(tmp_path):
    class Deadly(Broken):
        def __getitem__(self, index):
            os.kill(os.getpid(), signal.SIGKILL)

    data = (Source(Deadly(set()), tuple("abcd"), "deadly"), sources()[1])
    with pytest.raises(RuntimeError, match=r"process that reads images ended.*lower `workers`"):
        train(Small(), data, PLAN.with_(workers=1), tmp_path / "run", progress=False)
    assert read_log(tmp_path / "run").events[-1]["what"] == "stopped"


def test_tensorboard_reads_it(tmp_path):
    pytest.importorskip("tensorboard")
    run = begin(tmp_path / "run", max_steps=4, tensorboard=True)
    assert list((run.folder / "tensorboard").glob("events.*"))


PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from test_training_trainer import *
torch.set_num_threads(1)
plan = recipe("digits_cpu", epochs=13, warmup_epochs=1, batch_size=16, affine=None, precision="fp32", log_every=25)
torch_model = Small().to(getattr(torch, {dtype!r}))
torch_model.drop.p = 0.0
if {dies!r} and os.environ["RANK"] == "2":
    from mambaout_edu.training.run_loop import Loop
    after = Loop._after_update
    def dying(self, loss):
        after(self, loss)
        if self.step == 10:
            os._exit(7)
    Loop._after_update = dying
plan = plan.with_(batch_size=plan.batch_size if not {dies!r} else 18)
train(torch_model, sources(), plan, Path({folder!r}), progress=False, max_steps=50)
"""


def in_processes(count, folder, dtype="float32", dies=False):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = PROCESS.format(tests=str(Path(__file__).parent), dtype=dtype, folder=str(folder), dies=dies)
    together = {
        "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "1",
        "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(together if count > 1 else {}), "RANK": str(rank), "LOCAL_RANK": str(rank)}
            if count > 1 else {**os.environ, "ACCELERATE_USE_CPU": "1"},
        )
        for rank in range(count)
    ]  # fmt: skip
    said = [process.communicate(timeout=200)[1] for process in children]
    return [process.returncode for process in children], said


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-8), pytest.param("float32", 1e-4, marks=pytest.mark.slow)]
)
def test_two_processes_follow_one(tmp_path, dtype, tolerance):
    losses = []
    for count in (1, 2):
        codes, said = in_processes(count, tmp_path / str(count), dtype)
        assert codes == [0] * count, said
        losses.append(
            torch.tensor([line["loss"] for line in read_log(tmp_path / str(count)).steps], dtype=torch.float64)
        )
    assert losses[0].shape == (50,)
    assert torch.allclose(losses[0], losses[1], rtol=tolerance, atol=0)
    assert losses[0][-1] < losses[0][0]
    assert json.loads((tmp_path / "2" / "run.json").read_text())["processes"] == 2


def test_where_one_of_three_processes_dies_all_stop_with_one_message(tmp_path):
    codes, said = in_processes(3, tmp_path / "run", dies=True)
    assert codes[2] == 7
    assert codes[0] != 0 != codes[1]
    for text in said[:2]:
        assert "ProcessLost: one of the 3 processes of this run ended" in text, text[-600:]
    assert read_log(tmp_path / "run").events[-1]["what"] == "stopped"
