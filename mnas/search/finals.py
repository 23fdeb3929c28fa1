"""The finalists within the target trained longer, and the winner chosen by that.

A proxy compares candidates after a few epochs; what a network becomes is seen in a longer training with the recipe of
`mnas train`. Every one is kept in its own folder of the run, and a search that was killed goes on inside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnas.errors import SearchError
from mnas.files import make_folder
from mnas.rundir import RunDirectory
from mnas.search.finalists import Measured, decide
from mnas.search.history import History
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed
from mnas.store import EventStore

PRESET = "short"


@dataclass(frozen=True, slots=True)
class Finals:
    """Trains finalists of one run.

    Args:
        run: where their weights are kept.
        problem: with the images.
        store: takes an event `trained` for each.
        history: knows those trained before.
        reporter: told of progress.
    """

    run: RunDirectory
    problem: Problem
    store: EventStore
    history: History
    reporter: Reporter

    def choose(self, within: Sequence[Measured], budget: float) -> Measured:
        """The most accurate on validation images after the longer training; of ties the fastest.

        Args:
            within: finalists within the target, at least one; the most accurate so far are trained.
            budget: the cost that they were searched at.

        Raises:
            SearchError: none of them could be trained.
        """
        count = self.problem.config.finals
        chosen = sorted(within, key=lambda m: (-m.candidate.worth, m.cost, m.candidate.trial.number))[:count]
        outcomes = {
            m.candidate.trial.number: self._outcome(m, n, len(chosen)) for n, m in enumerate(chosen, 1)
        }
        trained = [
            replace(
                m,
                candidate=replace(
                    m.candidate, accuracy=found["accuracy"], accuracy_std=found["accuracy_std"]
                ),
            )
            for m in chosen
            if "error" not in (found := outcomes[m.candidate.trial.number])
        ]
        winner = decide(trained, budget, tie=None)
        if winner is None:
            errors = "; ".join(f"trial {number}: {found['error']}" for number, found in outcomes.items())
            raise SearchError(f"none of the finalists could be trained for longer: {errors}")
        return next(m for m in chosen if m.candidate.trial is winner.candidate.trial)

    def _outcome(self, measured: Measured, number: int, count: int) -> Mapping[str, Any]:
        """What became of a finalist, trained now or before this search was interrupted."""
        from mnas.training import TrainingError

        trial = measured.candidate.trial
        known = self.history.trained.get(trial.number)
        if known is not None and ("error" in known or final_weights(self.run, trial.number).is_file()):
            return known
        epochs = self.problem.config.final_epochs
        self.reporter.stage(
            f"training finalist {number} of {count} (trial {trial.number}) for {epochs} epochs"
        )
        spec = self.problem.space.decode(self.problem.space.from_key(trial.key))
        try:
            outcome = self._train(spec, trial.number)
        except TrainingError as error:
            outcome = {"trial": trial.number, "error": str(error)}
            self.reporter.warn(f"trial {trial.number} could not be trained for longer: {error}")
        self.store.append("trained", [outcome])
        self.store.commit()
        self.history.trained[trial.number] = outcome
        return outcome

    def _train(self, spec: NetworkSpec, number: int) -> dict[str, Any]:
        from mnas.threads import torch_threads
        from mnas.trainer import begin, fit, make_task, preset, save_checkpoint
        from mnas.trainer.described import how_trained, weights_metadata
        from mnas.training import batch_size_of, peak_rate, standard_error
        from mnas.weights import save_weights

        config, data = self.problem.config, self.problem.data
        assert data is not None
        assert config.final_epochs is not None
        size = batch_size_of(len(data.train))
        recipe = preset(PRESET, epochs=config.final_epochs, batch_size=size, lr=peak_rate(size))
        if not data.flip:  # digits and the like: what is moved or mirrored there takes longer to learn
            recipe = replace(recipe, flip=False, crop="none")
        task = make_task(
            spec,
            recipe,
            data,
            seed=derive_seed(config.seed, "final"),
            device=self.problem.device,
        )
        weights = final_weights(self.run, number)
        checkpoint = weights.with_name("checkpoint.safetensors")
        make_folder(weights.parent)

        with torch_threads(config.train_threads):
            state = fit(
                task,
                lambda: begin(task, checkpoint),
                save=lambda state: save_checkpoint(checkpoint, state),
                listener=self.reporter,
            )
        progress = state.progress
        save_weights(weights, state.best, weights_metadata(task, progress))
        checkpoint.unlink(missing_ok=True)
        return {
            "trial": number,
            "accuracy": progress.best_accuracy,
            "accuracy_std": standard_error(progress.best_accuracy, len(data.val)),
            "accuracy_source": how_trained(task, progress),
            "epochs": recipe.epochs,
            "seconds": round(progress.seconds, 3),
        }


def final_weights(run: RunDirectory, trial: int) -> Path:
    """Where the weights of a finalist are kept."""
    path: Path = run.finals / f"trial-{trial}" / "model.safetensors"
    return path
