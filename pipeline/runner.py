"""Plan, run, resume: carries out the steps of a recipe that are not done."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.console import say
from pipeline.curves import open_curves
from pipeline.disk import refusal
from pipeline.errors import RunError, UserError, VqasrError, brief
from pipeline.freshness import StepState, examine
from pipeline.stage import Step, StepContext
from pipeline.step_log import log_file
from pipeline.store import Store


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

        A missing artifact is made only where something that is to run reads it, or nothing does;
        what stands beside the work, only where all that it reads is there or is made anyhow.

        Raises:
            UserError: an earlier stage than `first` is not done.
        """
        every = self.examine()
        states = [state for state in every if not state.step.beside]
        chosen = [s for s in states if self._chosen(s.step)]
        self._refuse_stale_before(states, chosen)
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
        return self._with_beside(every, pending)

    def _with_beside(self, states: Sequence[StepState], pending: Sequence[Step]) -> list[Step]:
        """The pending steps in order, with those that stand beside the work and can be made."""
        made = {id(step) for step in pending}
        there = made | {id(s.step) for s in states if s.state == "done"}
        for state in states:
            step, lacks = state.step, self.force or state.state != "done"
            can_be = all(id(source) in there for source in step.inputs.values())
            if step.beside and self._chosen(step) and lacks and can_be:
                made.add(id(step))
        return [state.step for state in states if id(state.step) in made]

    def nothing_to_do(self) -> str:
        """What to say when no step is pending."""
        states = self.examine()
        done = sum(s.state == "done" for s in states if self._chosen(s.step))
        later = sum(s.state != "done" for s in states if s.step.number > self.last)
        left = f"; later steps that are not done: {later}" if later else ""
        return f"nothing to do, {done} steps are done{left}"

    def _chosen(self, step: Step) -> bool:
        return (self.first or 0) <= step.number <= self.last

    def _refuse_stale_before(
        self, states: Sequence[StepState], chosen: Sequence[StepState]
    ) -> None:
        """Refuse what all that is chosen would be made of, however far back it lies.

        A missing one does not count: it is needed only where something that is to run reads it.
        """
        above = {id(state.step) for state in chosen}
        for state in reversed(states):
            if id(state.step) in above:
                above |= {id(source) for source in state.step.inputs.values()}
        for state in states:
            is_before = state.step.number < (self.first or 0) and id(state.step) in above
            if is_before and state.state in ("stale", "interrupted"):
                self._refuse_earlier(state)

    def _refuse_earlier(self, state: StepState) -> None:
        why = f" ({'; '.join(state.reasons)})" if state.reasons else ""
        until = (self.first or 1) - 1
        remedy = f"{self.command} --stop-stage {until}"
        earlier = replace(self, first=None, last=until, force=False)
        if not any(step is state.step for step in earlier.pending()):
            remedy = self.rebuild(state.step)  # what reads it there is done
        raise UserError(
            f"Stage {state.step.title} is {state.state}{why}, and --stage starts after it.",
            remedy=remedy,
        )

    def carry_out(self) -> int:
        """Run what is pending and return how many steps ran.

        What comes out different from before makes later steps pending, so the plan is
        looked at again after every step.
        """
        ran: set[int] = set()
        for step in self.steps:
            self._refuse_no_link(step)
        for step in self.steps:
            self.store.tell_audio_root(step)
        self._link_all()  # first: what this run is to read, no `vqasr prune` may take away
        pending = self.pending()
        while pending:
            step = pending[0]
            self._run_step(step, f"[{len(ran) + 1}/{len(ran) + len(pending)}]")
            ran.add(id(step))
            pending = [p for p in self.pending() if id(p) not in ran]
        self._link_all()
        return len(ran)

    def _run_step(self, step: Step, count: str) -> None:
        if step.shared:
            self._run_shared(step, count)
            return
        with self.store.locked(step):
            state = self._to_do(step)
            if state is None:  # another process made it while we waited
                return
            inputs = self._verified_inputs(step)
            if self._adopt(step, inputs, count):
                return
            _, resumed = self.store.open_partial(step, inputs)
            self._announce(count, state, resumed)
            self._stamp(step, inputs, self._work(step, resumed))

    def _run_shared(self, step: Step, count: str) -> None:
        """Work in the step's folder beside other processes; the one that is last to leave stamps.

        The lock is held alone to open the folder and to stamp it, and shared in between. So
        nobody stamps, replaces or deletes a folder that another works in.
        """
        announced = False
        while True:
            with self.store.shared(step):
                inputs = self._verified_inputs(step)
                if self.store.is_open(step, inputs):
                    if not announced:
                        say(f"{count} {step.title}, going on with what is there")
                    seconds = self._work(step, resumed=True)
                    break
            with self.store.locked(step):
                state = self._to_do(step)
                if state is None or self._adopt(step, inputs, count):
                    return
                _, resumed = self.store.open_partial(step, inputs)
                self._announce(count, state, resumed)
                announced = True
        with self.store.locked(step):
            if self.store.is_open(step, inputs):  # else another has stamped it
                self._stamp(step, inputs, seconds)

    def _adopt(self, step: Step, inputs: dict[str, str], count: str) -> bool:
        """Whether a killed run had done the step, all but for its name; it has that now."""
        stamp = self.store.adopt(step, inputs)
        if stamp is None:
            return False
        say(f"{count} {step.title}: it was done when the run was killed")
        self._link(step)
        say(f"  done in {stamp.seconds:.0f} s")
        return True

    def _to_do(self, step: Step) -> StepState | None:
        """The state of a step that is to run; None where it has been made meanwhile."""
        forced = self.force and (self.first or 0) <= step.number
        state = next(s for s in self.examine() if s.step is step)
        return None if state.state == "done" and not forced else state

    def _verified_inputs(self, step: Step) -> dict[str, str]:
        return {role: self.store.verify(s, self.rebuild(s)) for role, s in step.inputs.items()}

    def _announce(self, count: str, state: StepState, resumed: bool) -> None:
        say(f"{count} {state.step.title}" + (", going on where it stopped" if resumed else ""))
        for reason in state.reasons if state.state == "stale" else ():
            say(f"  because {reason}")

    def _stamp(self, step: Step, inputs: dict[str, str], seconds: float) -> None:
        stamp = self.store.finish(step, inputs, seconds)
        self._link(step)
        say(f"  done in {stamp.seconds:.0f} s")

    def rebuild(self, step: Step) -> str:
        """The command that makes the step's artifact anew."""
        return f"{self.command} --stage {step.number} --stop-stage {step.number} --force"

    def _work(self, step: Step, resumed: bool) -> float:
        """Run the step in its open folder; the seconds that it took."""
        start = time.monotonic()
        with log_file(self.links / "logs" / f"{step.link_name}.log") as log_path:
            context = StepContext(
                folder=self.store.partial(step),
                inputs={role: self.store.path(s) for role, s in step.inputs.items()},
                device=self.device,
                tensorboard=open_curves(self.links, step, resumed=resumed),
            )
            try:
                step.run(context)
            except KeyboardInterrupt:
                say(f"  interrupted in {step.title}; run again to go on")
                raise
            except Exception as error:
                logging.getLogger("vqasr").exception("failed")
                failed = _told(step, error, context.folder)
                failed.log = str(log_path)
                if failed is error:
                    raise
                raise failed from error
        return time.monotonic() - start

    def _link(self, step: Step) -> None:
        """exp/<recipe>/<number>-<stage>-<label> -> the artifact, relative and replaced at once."""
        target = os.path.relpath(self.store.path(step), self.links)
        link = self.links / step.link_name
        if link.is_symlink() and os.readlink(link) == target:
            return
        self.links.mkdir(parents=True, exist_ok=True)
        beside = link.with_name(f".{link.name}.{uuid.uuid4().hex}.tmp")  # two runs may link at once
        beside.symlink_to(target)
        beside.replace(link)

    def _refuse_no_link(self, step: Step) -> None:
        """Refuse, before any work, what stands where a link is to be, and would be lost."""
        link = self.links / step.link_name
        if link.exists() and not link.is_symlink():
            raise UserError(
                f"{link} is no link.",
                constraint="a link to a result, or nothing there",
                remedy="move it to another place",
            )

    def _link_all(self) -> None:
        """Point to every artifact there is (another recipe may have made it); drop what is old."""
        for step in self.steps:
            if self.store.stamp(step) is not None:
                self._link(step)
        planned = {s.link_name for s in self.steps}
        for link in self.links.glob("[0-9]-*"):
            if link.is_symlink() and link.name not in planned:
                link.unlink(missing_ok=True)  # another run of the recipe may be faster


def _told(step: Step, error: Exception, folder: Path) -> VqasrError:
    """What a person is told of a step that failed: in its own words, where it has some."""
    if isinstance(error, UserError):
        return error
    refused = refusal(error, folder)
    if refused is not None:
        refused.what = f"{step.title}: {refused.what}"
        return refused
    if isinstance(error, VqasrError):
        return error
    return RunError(f"{step.title} failed: {brief(error)}")
