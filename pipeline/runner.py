"""Plan, run, resume: carries out the steps of a recipe that are not done."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.console import say
from pipeline.errors import RunError, UserError, VqasrError
from pipeline.freshness import StepState, examine
from pipeline.stage import Step, StepContext
from pipeline.store import Stamp, Store


@dataclass(frozen=True)
class Run:
    """One call of `vqasr run`.

    Attributes:
        links: exp/<recipe>, with a readable link to each artifact, logs and TensorBoard.
        first, last: numbers of the stages to run; `first` None means all that is not done.
        command: what to type for this recipe, for remedies.
        kept: steps whose artifacts are read when all is done, so none of them may be missing.
    """

    steps: Sequence[Step]
    store: Store
    links: Path
    first: int | None
    last: int
    force: bool
    device: str
    command: str
    kept: Sequence[Step] = ()

    def examine(self) -> list[StepState]:
        return examine(self.steps, self.store, self.links)

    def pending(self) -> list[Step]:
        """The steps to run, in order.

        A missing artifact is made only where something that is to run reads it, or nothing does.

        Raises:
            UserError: an earlier stage than `first` is not done.
        """
        states = self.examine()
        chosen = [s for s in states if (self.first or 0) <= s.step.number <= self.last]
        read = {id(source) for s in chosen for source in s.step.inputs.values()}
        read -= {id(step) for step in self.kept}
        needed: set[int] = set()
        pending = []
        for state in reversed(states):
            step = state.step
            if step.number > self.last:
                continue
            is_chosen = step.number >= (self.first or 0)
            wanted = id(step) in needed or (is_chosen and id(step) not in read)
            forced = self.force and is_chosen
            if not forced and (state.state == "done" or (state.state == "missing" and not wanted)):
                continue
            if not is_chosen:
                if id(step) in needed:
                    self._refuse_earlier(state)
                continue
            pending.append(step)
            needed |= {id(source) for source in step.inputs.values()}
        return pending[::-1]

    def _refuse_earlier(self, state: StepState) -> None:
        why = f" ({'; '.join(state.reasons)})" if state.reasons else ""
        raise UserError(
            f"Stage {state.step.title} is {state.state}{why}, and --stage starts after it.",
            remedy=f"{self.command} --stop-stage {(self.first or 1) - 1}",
        )

    def carry_out(self) -> int:
        """Run what is pending and return how many steps ran.

        What comes out different from before makes later steps pending, so the plan is
        looked at again after every step.
        """
        ran: set[int] = set()
        for step in self.steps:
            self.store.tell_audio_root(step)
        pending = self.pending()
        while pending:
            step = pending[0]
            self._run_step(step, f"[{len(ran) + 1}/{len(ran) + len(pending)}]")
            ran.add(id(step))
            pending = [p for p in self.pending() if id(p) not in ran]
        self._link_all()
        return len(ran)

    def _run_step(self, step: Step, count: str) -> None:
        with self.store.locked(step):
            forced = self.force and (self.first or 0) <= step.number
            state = next(s for s in self.examine() if s.step is step)
            if state.state == "done" and not forced:  # another process made it while we waited
                return
            inputs = {
                role: self.store.verify(s, self._rebuild(s)) for role, s in step.inputs.items()
            }
            stamp = self.store.adopt(step, inputs)
            if stamp is not None:
                say(f"{count} {step.title}: it was done when the run was killed")
            else:
                folder, resumed = self.store.open_partial(step, inputs)
                say(f"{count} {step.title}" + (", going on where it stopped" if resumed else ""))
                for reason in state.reasons if state.state == "stale" else ():
                    say(f"  because {reason}")
                stamp = self._work(step, folder, inputs)
            self._link(step)
        say(f"  done in {stamp.seconds:.0f} s")

    def _rebuild(self, step: Step) -> str:
        return f"{self.command} --stage {step.number} --stop-stage {step.number} --force"

    def _work(self, step: Step, folder: Path, inputs: dict[str, str]) -> Stamp:
        start = time.monotonic()
        with self._log_file(step) as log_path:
            context = StepContext(
                folder=folder,
                inputs={role: self.store.path(s) for role, s in step.inputs.items()},
                device=self.device,
                tensorboard=self.links / "tensorboard" / step.link_name,
            )
            try:
                step.run(context)
            except VqasrError:
                logging.getLogger("vqasr").exception("failed")
                raise
            except KeyboardInterrupt:
                say(f"  interrupted in {step.title}; run again to go on")
                raise
            except Exception as error:
                logging.getLogger("vqasr").exception("failed")
                kind = type(error).__name__
                raise RunError(
                    f"{step.title} failed: {kind}: {error}", remedy=f"the log is {log_path}"
                ) from error
            return self.store.finish(step, inputs, time.monotonic() - start)

    @contextmanager
    def _log_file(self, step: Step) -> Iterator[Path]:
        """Everything that is logged while the step works goes to its own file."""
        path = self.links / "logs" / f"{step.link_name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        root, ours = logging.getLogger(), logging.getLogger("vqasr")
        level = root.level
        root.setLevel(logging.INFO)
        ours.setLevel(logging.DEBUG)
        root.addHandler(handler)
        try:
            yield path
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            handler.close()

    def _link(self, step: Step) -> None:
        """exp/<recipe>/<number>-<stage>-<label> -> the artifact, relative and replaced at once."""
        target = os.path.relpath(self.store.path(step), self.links)
        link = self.links / step.link_name
        if link.is_symlink() and os.readlink(link) == target:
            return
        self.links.mkdir(parents=True, exist_ok=True)
        beside = link.with_name(f".{link.name}.tmp")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(link)

    def _link_all(self) -> None:
        """Point to every artifact there is (another recipe may have made it); drop what is old."""
        for step in self.steps:
            if self.store.stamp(step) is not None:
                self._link(step)
        planned = {s.link_name for s in self.steps}
        for link in self.links.glob("[0-9]-*"):
            if link.is_symlink() and link.name not in planned:
                link.unlink()
