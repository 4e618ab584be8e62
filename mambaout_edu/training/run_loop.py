"""The loop of a run: updates, the log, measurements, checkpoints, and what can go wrong in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..strings import text
from .checkpoints import Checkpoints, read_checkpoint
from .diagnose import check_finite, where_not_finite
from .evaluating import evaluate_model
from .ingredients import create_ema, create_loss, create_mixup, create_optimizer, create_schedule
from .loaders import TooManyBadImages, explained, train_loader
from .processes import StopRequest, lost
from .randomness import stable_seed
from .recipe import Recipe
from .run_log import Log, RunLog
from .sources import Source

__all__ = ["Loop"]


class Loop:
    """A run in memory. `step` counts its updates; `bare` is the model, `model` the same as accelerate wraps it."""

    def __init__(
        self, module: nn.Module, sources: tuple[Source, Source], recipe: Recipe, folder: Path, log: RunLog | None,
        accelerator: Any, progress: bool, on_log: Callable[[dict[str, Any]], object] | None, tensorboard: bool,
    ) -> None:  # fmt: skip
        self.recipe, self.folder, self.log, self.accelerator = recipe, folder, log, accelerator
        self.lines = log.log if log is not None else Log()
        self.progress, self.on_log = progress and accelerator.is_main_process, on_log
        self.validation = sources[1]
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.bare = module.to(accelerator.device).to(memory_format=self.layout)
        self.ema = create_ema(self.bare, recipe)
        self.updates_per_epoch = recipe.updates_per_epoch(len(sources[0]))
        self.total = recipe.total_epochs * self.updates_per_epoch
        optimizer = create_optimizer(self.bare, recipe)
        self.schedule = create_schedule(optimizer, recipe, self.updates_per_epoch)
        self.model, self.optimizer = accelerator.prepare(self.bare, optimizer)
        if recipe.compile:
            self.model = torch.compile(self.model)
        self.loss, self.mix = create_loss(recipe), create_mixup(recipe, len(sources[0].classes))
        self.loader = train_loader(sources[0], recipe, rank=self.rank, world=self.world)
        self.kept = Checkpoints(folder / "checkpoints", recipe.keep_checkpoints)
        self.stop = StopRequest()
        self.step, self.saved_at = 0, -1
        self.dtype = next(module.parameters()).dtype
        # Looking at a loss makes a GPU wait; there it is read with the log, and the update is made again to find out.
        self.watches, self.replays = accelerator.device.type == "cpu", False
        self._pending: list[tuple[Tensor, float, float]] = []  # loss, learning rate, time of each update
        self._since, self._told = time.time(), 0
        self.board = _board(folder, tensorboard and accelerator.is_main_process)

    # --- the step -----------------------------------------------------------------------------------------------------

    def micro_step(self, images: Tensor, labels: Tensor, number: int) -> Tensor:
        """Learn from one batch: forward, backward, and the update once `accumulate` batches are summed up."""
        images = images.to(self.accelerator.device, self.dtype, non_blocking=True, memory_format=self.layout)
        labels = labels.to(self.accelerator.device, non_blocking=True)
        torch.manual_seed(stable_seed(self.recipe.seed, number, self.rank))  # of drop path and dropout
        if self.mix is not None:
            images, labels = self.mix(images, labels, number, self.rank)
        with self.accelerator.accumulate(self.model):
            loss = self.loss(self.model(images), labels)
            if self.watches and not torch.isfinite(loss):
                self._refuse(where_not_finite(self.bare, images))
            self.accelerator.backward(loss)
            if self.recipe.clip is not None and self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
            self.optimizer.step()  # accelerate lets both pass until the last batch of an update
            self.optimizer.zero_grad()
        return loss.detach()

    def _epoch(self, stop_at: int) -> None:
        """Make the updates of the epoch that `step` is in, from there on."""
        accumulate = self.recipe.accumulate
        epoch, done = divmod(self.step, self.updates_per_epoch)
        self.loader.set_epoch(epoch, done * accumulate)
        self._told = 0
        self.model.train()
        losses: list[Tensor] = []
        for images, labels, _ in self.loader:
            if not losses:
                self.schedule.step_update(self.step)
            losses.append(self.micro_step(images, labels, self.step * accumulate + len(losses)))
            if len(losses) < accumulate:
                continue
            self._after_update(torch.stack(losses).mean())
            losses = []
            if self.step >= stop_at or self._asked():
                break
        if self.step % self.updates_per_epoch == 0 and not self.replays:
            self._measure()

    def _after_update(self, loss: Tensor) -> None:
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.bare, step=self.step)
        if self.replays:
            return
        self._pending.append((loss, self.optimizer.param_groups[0]["lr"], time.time()))
        if self._at_log():
            self._write_steps()
        every = self.recipe.checkpoint_every_steps
        if every and self.step % every == 0 and self.step % self.updates_per_epoch:  # an epoch's end saves by itself
            self.save()

    def _at_log(self) -> bool:
        return self.step % self.recipe.log_every == 0 or self.step % self.updates_per_epoch == 0

    def _asked(self) -> bool:
        """Return whether to stop. Several processes agree on it when they log: each time costs a round of messages."""
        if self.world > 1 and not self._at_log():
            return False
        return self.stop.everywhere(self.accelerator)

    # --- the whole run ------------------------------------------------------------------------------------------------

    def run(self, max_steps: int | None = None) -> bool:
        """Train to the end, or to `max_steps`; return whether a signal or `max_steps` stopped it before its end."""
        stop_at = min(self.total, max_steps or self.total)
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        title = text("training", "progress")
        self.bar = tqdm(total=self.total, initial=self.step, desc=title, disable=not self.progress)
        try:
            with self.stop.listening(), torch.random.fork_rng(devices), self.bar:
                if self.step == 0:
                    self.save()  # so that there is always one to go back to
                asked = False
                while self.step < stop_at and not asked:
                    self._epoch(stop_at)
                    asked = self.stop.everywhere(self.accelerator)
                self._write_steps()
                self.event(
                    *(("finished", "") if self.step == self.total else ("stopped", self.stop.name or "max_steps"))
                )
                self.save()
                return self.step < self.total
        except FloatingPointError as error:
            self.event("nan", str(error))
            raise
        except TooManyBadImages as error:
            self._write_steps()
            self.event("stopped", str(error))
            raise
        except RuntimeError as error:
            explanation = lost(explained(error), self.world)
            self.event("stopped", str(explanation))
            if explanation is error:
                raise
            raise explanation from error
        finally:
            if self.log is not None:
                self.log.close()
            if self.board is not None:
                self.board.close()

    def _measure(self) -> None:
        """Classify the validation images, and save."""
        model = self.bare if self.ema is None else self.ema.module
        together = self.accelerator if self.world > 1 else None
        found = evaluate_model(model, self.validation, self.recipe, accelerator=together, progress=False)
        self._write({
            "kind": "eval", "step": self.step, "epoch": self.step / self.updates_per_epoch, "accuracy": found.accuracy,
            "correct": found.correct, "total": found.total, "loss": found.loss, "ema": self.ema is not None,
        })  # fmt: skip
        self.bar.set_postfix_str(text("training", "accuracy", percent=f"{found.accuracy:.1%}"))
        self.save(found.accuracy)
        self._since = time.time()  # measuring is no part of the images a second

    # --- the log ------------------------------------------------------------------------------------------------------

    def _write_steps(self) -> None:
        """Write a line for every update since the last time; the first look at their losses."""
        if not self._pending:
            return
        together = torch.stack([loss for loss, _, _ in self._pending])
        losses = self.accelerator.reduce(together, reduction="mean").tolist()
        first = self.step - len(losses) + 1
        broken = next((first + i for i, loss in enumerate(losses) if not abs(loss) < float("inf")), None)
        if broken is not None:
            self._pending.clear()
            self._find_out(broken)
        speed = len(losses) * self.recipe.batch_size / max(time.time() - self._since, 1e-9)
        left = (self.total - self.step) * self.recipe.batch_size / speed
        on_gpu = self.accelerator.device.type == "cuda"
        memory = torch.cuda.max_memory_allocated() if on_gpu else None
        for step, (loss, (_, lr, when)) in enumerate(zip(losses, self._pending, strict=True), first):
            self._write({
                "kind": "step", "step": step, "epoch": step / self.updates_per_epoch, "loss": loss, "lr": lr,
                "images_per_second": speed, "seconds_left": left, "gpu_memory": memory, "time": when,
            })  # fmt: skip
        for bad in self.loader.bad[self._told :]:
            self.event("bad_image", f"{bad.index}: {bad.reason}")
        self._told = len(self.loader.bad)
        self.bar.update(len(losses))
        self._pending, self._since = [], time.time()

    def event(self, what: str, detail: str) -> None:
        """Log that something happened."""
        self._write({"kind": "event", "step": self.step, "what": what, "detail": detail})

    def _write(self, line: dict[str, Any]) -> None:
        if self.log is None:
            return
        self.log.write(line)
        if self.on_log is not None:
            self.on_log(line)
        if self.board is not None and line["kind"] in ("step", "eval"):
            for name in ("loss", "lr", "images_per_second", "accuracy"):
                if name in line:
                    self.board.add_scalar(f"{line['kind']}/{name}", line[name], line["step"])

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, score: float | None = None) -> None:
        """Write a checkpoint, unless this step has one."""
        if self.saved_at == self.step:
            return
        self._write_steps()  # never a checkpoint whose steps the log lacks
        check_finite(self.bare, self.step)  # a checkpoint is one to go back to
        if self.log is not None:
            self.log.flush()
            ema = None if self.ema is None else self.ema.module.state_dict()
            state = {"step": self.step, "model": self.bare.state_dict(), "ema": ema}
            self.kept.save({**state, "optimizer": self.optimizer.state_dict()}, self.step, score)
        self.accelerator.wait_for_everyone()
        self.saved_at = self.step

    def load(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self.bare.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = self.saved_at = state["step"]

    # --- a loss that is not finite ------------------------------------------------------------------------------------

    def _refuse(self, where: str) -> None:
        raise FloatingPointError(
            f"the loss of step {self.step + 1} is not finite: {where}. The checkpoints are from before; lower the "
            "learning rate, set clip, or look at the images of this step"
        )

    def _find_out(self, broken: int) -> None:
        """Go back to the last checkpoint and make the updates again, looking at each, to say where it began."""
        path = self.kept.latest()
        if path is not None and self.world == 1:
            self.load(read_checkpoint(path))
            self.watches = self.replays = True
            while self.step < broken:
                self._epoch(broken)
        self.step = broken - 1
        self._refuse("the layer could not be found again")


def _board(folder: Path, wanted: bool) -> Any:
    if not wanted:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            'TensorBoard is not installed; pip install "mambaout-edu[train]", or leave tensorboard out',
            name="tensorboard",
        ) from error
    return SummaryWriter(folder / "tensorboard")
