"""REINFORCE that practises on a model: only what its policy makes of the model is worth a real evaluation.

A Gaussian process of accuracy is fitted to the evaluations so far (`surrogate`); costs are the objective's own. Before
each proposal the policy of `reinforce` takes policy-gradient steps on the rewards that the process foretells, some
standard deviations up. Of the networks that it samples then, those of greatest expected improvement are asked for.
Why so: docs/decisions/0014-practising-on-a-model.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from mnas.controllers.fresh import Known, uniform_share
from mnas.controllers.policy import Policy
from mnas.controllers.surrogate import AccuracySurrogate, Points, spread, unlink
from mnas.protocols import Objective, Observation
from mnas.search_space import Architecture, SearchSpace

Floats = NDArray[np.float64]

# All chosen here, on made-up problems: docs/decisions/0014-practising-on-a-model.md.
INITIAL = 10  # evaluations before there is a model; they lie far apart
OPTIMISM = 3.0  # standard deviations above the mean that the policy is trained on
STEPS, ASKS_PER_STEP = 2, 8  # policy steps for an ask, and one more for so many networks wanted
SAMPLES, VARIED = 32, 96  # of the policy in a step, and of the best so far with some choices drawn anew
CHANGES = (1.0, 2.0, 4.0)  # choices drawn anew, on the average
VARIED_UNIFORM = 0.5  # share of the uniform distribution that they are drawn from
LEARNING_RATE, ENTROPY_WEIGHT, IMITATION_WEIGHT, ELITE = 0.1, 0.05, 0.3, 16
RELAX = (
    0.05  # of the way back to uniform before each step: the model that was practised on was an earlier one
)
# Where nothing sampled promises a gain of this share of the best reward, the policy goes half of the way back to
# uniform and takes another step, so many times.
NEGLIGIBLE, RESTART_RELAX, RESTARTS = 1e-5, 0.5, 4
POOL = 64  # candidates kept from one ask to the next
INCUMBENTS = 8  # evaluated networks that are varied, too
GROWTH = 1.25  # of the trials, until hyperparameters are chosen anew
MOST = 500  # trials in the model from there on; the best half and an even sample of the others
# A network that could not be evaluated counts as one at this quantile of accuracy: its neighbours are likely to fail.
FAILED_QUANTILE = 0.25
# The expected improvement's integral over the normal distribution, by Gauss-Hermite quadrature.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_REFUSED = -1e9  # for a reward of minus infinity: no number to learn from


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Networks with their costs, and mean and variance of the link of accuracy as the model foretells them, `(n,)`."""

    architectures: tuple[Architecture, ...]
    points: Points
    cost: Floats
    mean: Floats
    variance: Floats

    def __getitem__(self, rows: NDArray[np.intp]) -> "_Candidates":
        return _Candidates(
            tuple(self.architectures[row] for row in rows),
            self.points[rows],
            self.cost[rows],
            self.mean[rows],
            self.variance[rows],
        )

    def followed_by(self, other: "_Candidates") -> "_Candidates":
        return _Candidates(
            self.architectures + other.architectures,
            self.points.followed_by(other.points),
            np.concatenate([self.cost, other.cost]),
            np.concatenate([self.mean, other.mean]),
            np.concatenate([self.variance, other.variance]),
        )


class GuidedController:
    """Policy gradient on predicted rewards; expected improvement decides what is evaluated. No network twice.

    The first networks are random ones of good cost, far apart. A failed trial counts as one of low accuracy in the
    model; one that is infeasible teaches nothing, since the objective's costs foretell it.

    Args:
        space: what to sample from.
        seed: of its own generator.
        objective: its costs, and its rewards. A told observation's accuracy is `metrics["accuracy"]`; where that is
            missing it is the accuracy that would have had the reward.
    """

    def __init__(self, space: SearchSpace, *, seed: int, objective: Objective) -> None:
        self._space, self._objective = space, objective
        self._rng = np.random.default_rng(seed)
        self._known = Known(space)
        self._policy = Policy(space, learning_rate=LEARNING_RATE)
        self._model = AccuracySurrogate(space)
        self._unread: dict[Architecture, Observation] = {}
        self._told: dict[Architecture, float] = {}  # accuracy; nan where it could not be had
        self._costs: dict[Architecture, float] = {}
        self._pending: dict[Architecture, None] = {}
        self._pool: tuple[Architecture, ...] = ()
        self._rows: dict[Architecture, None] = {}  # what the model has taken in, in order
        self._fitted_at = 0
        self._read_count = 0
        self._stale = True
        self._cost_mean, self._cost_scale, self._cost_most = 0.0, 1.0, 1.0

    def ask(self, n: int = 1) -> list[Architecture]:
        """`n` networks never asked or told of; fewer once every network is known."""
        self._read()
        done = sum(accuracy == accuracy for accuracy in self._told.values())
        asked = self._spread(n) if done < INITIAL else self._propose(n)
        asked += self._known.fresh(
            n - len(asked),
            lambda number, count: self._policy.draw(count, self._rng, uniform_share(number)),
        )
        self._pending.update(dict.fromkeys(asked))
        return asked

    def tell(self, observations: Sequence[Observation]) -> None:
        """Remembers; costs are asked for and the model is fitted when they are needed.

        Raises:
            InputError: an architecture outside the space; nothing is learned then.
        """
        points = [self._space.architecture(o.architecture) for o in observations]
        for point, observation in zip(points, observations, strict=True):
            self._known.add(point)
            self._pending.pop(point, None)
            if observation.status != "infeasible":
                self._unread[point] = observation

    def _read(self) -> None:
        """Takes in what was told, but for what the objective refuses."""
        costs = self._objective.cost(list(self._unread))
        for (point, observation), cost in zip(self._unread.items(), costs.tolist(), strict=True):
            if np.isfinite(cost):
                self._told[point] = self._accuracy(observation, cost)
                self._costs[point] = cost
                self._stale = True
        self._unread.clear()

    def recommend(self) -> Architecture | None:
        """The evaluated network of greatest reward, half of what the model calls noise taken out; None before any.

        With one evaluation of each network nothing tells noise from what is a network's own; half is wrong by as
        much either way.
        """
        self._read()
        done = [point for point, accuracy in self._told.items() if accuracy == accuracy]
        if not done:
            return None
        accuracy = np.array([self._told[point] for point in done])
        if len(done) >= INITIAL:
            self._update_model()
            smooth = dict(zip(self._rows, unlink(self._model.fitted()).tolist(), strict=True))
            done = [point for point in done if point in smooth]
            accuracy = np.array([(self._told[point] + smooth[point]) / 2 for point in done])
        return done[int(self._rewards(accuracy, self._objective.cost(done)).argmax())]

    def _accuracy(self, observation: Observation, cost: float) -> float:
        if observation.status == "failed":
            return nan
        if "accuracy" in observation.metrics:
            return float(observation.metrics["accuracy"])
        grid = np.linspace(0.0, 1.0, 10001)
        rewards = self._rewards(grid, np.full(len(grid), cost))
        assert observation.reward is not None
        return float(grid[min(int(np.searchsorted(rewards, observation.reward)), len(grid) - 1)])

    def _rewards(self, accuracy: Floats, cost: Floats) -> Floats:
        rewards = np.asarray(self._objective.score(accuracy, cost), dtype=np.float64)
        return np.where(np.isfinite(rewards), rewards, _REFUSED)

    def _spread(self, n: int) -> list[Architecture]:
        """Random networks: of the half that the cost speaks for, the one that differs most from those known."""
        chosen: list[Architecture] = []
        while len(chosen) < n:
            drawn = dict.fromkeys(self._policy.draw(SAMPLES, self._rng, 1.0))
            new = [point for point in drawn if point not in self._known]
            if not new:
                break
            cost = self._objective.cost(new)
            worth = self._rewards(np.ones(len(new)), cost)
            order = np.argsort(-worth, kind="stable")[
                : -(-min(len(new), 2 * np.isfinite(cost).sum()) // 2) or 1
            ]
            others = np.array([*self._told, *self._pending, *chosen])
            genes = np.array(new)[order]
            differing = (genes[:, None, :] != others[None]).sum(axis=2).min(axis=1) if len(others) else [0]
            point = new[order[int(np.argmax(differing))]]
            self._known.add(point)
            chosen.append(point)
        return chosen

    def _update_model(self) -> None:
        """Takes in what was told since; chooses the hyperparameters anew where the trials have grown enough."""
        if not self._stale:
            return
        self._stale = False
        values = np.array(list(self._told.values()))
        low = float(np.quantile(values[~np.isnan(values)], FAILED_QUANTILE))
        accuracy = dict(zip(self._told, np.where(np.isnan(values), low, values).tolist(), strict=True))
        new = list(self._told)[self._read_count :]
        self._read_count = len(self._told)
        anew = len(self._rows) + len(new) >= GROWTH * self._fitted_at
        if anew:
            new = self._worth_keeping(accuracy)
            logs = np.log([self._costs[point] for point in new])
            self._cost_mean, self._cost_scale = float(logs.mean()), spread(logs)
            self._cost_most = float(np.exp(logs.max()))
            self._rows.clear()
            self._fitted_at = len(new)
        self._rows.update(dict.fromkeys(new))
        points = self._points(new, np.array([self._costs[point] for point in new]))
        taken = np.array([accuracy[point] for point in self._rows])
        if anew:
            self._model.fit(points, taken)
        else:
            self._model.extend(points, taken)

    def _worth_keeping(self, accuracy: Mapping[Architecture, float]) -> list[Architecture]:
        """At most `MOST` of the trials, in the order told."""
        if len(accuracy) <= MOST:
            return list(accuracy)
        costs = np.array([self._costs[point] for point in accuracy])
        order = np.argsort(-self._rewards(np.array(list(accuracy.values())), costs), kind="stable")
        best, others = order[: MOST // 2], np.sort(order[MOST // 2 :])
        even = others[np.linspace(0, len(others) - 1, MOST - len(best)).astype(np.intp)]
        kept = set(best.tolist()) | set(even.tolist())
        return [point for row, point in enumerate(accuracy) if row in kept]

    def _points(self, architectures: Sequence[Architecture], cost: Floats) -> Points:
        logs = np.log(np.where(np.isfinite(cost), cost, self._cost_most))
        return self._model.points(architectures, (logs - self._cost_mean) / self._cost_scale)

    def _best_rows(self, count: int) -> tuple[list[Architecture], Floats]:
        """The model's trials of greatest reward, best first, and those rewards, noise taken out."""
        rows = list(self._rows)
        fitted = unlink(self._model.fitted())
        order = np.argsort(-self._rewards(fitted, np.array([self._costs[p] for p in rows])), kind="stable")
        best = [rows[row] for row in order[:count]]
        rewards = self._rewards(fitted[order[:count]], self._objective.cost(best))  # costs as they are now
        again = np.argsort(-rewards, kind="stable")
        return [best[row] for row in again], rewards[again]

    def _look(self, architectures: Sequence[Architecture]) -> _Candidates:
        cost = np.asarray(self._objective.cost(architectures), dtype=np.float64)
        points = self._points(architectures, cost)
        return _Candidates(tuple(architectures), points, cost, *self._model.predict(points))

    def _hope(self, candidates: _Candidates) -> Floats:
        accuracy = unlink(candidates.mean + OPTIMISM * np.sqrt(candidates.variance))
        return self._rewards(accuracy, candidates.cost)

    def _propose(self, n: int) -> list[Architecture]:
        self._update_model()
        incumbents, rewards = self._best_rows(INCUMBENTS)
        found = self._look(list(dict.fromkeys((*self._pool, *incumbents))))
        hope = self._hope(found)
        for _ in range(STEPS + n // ASKS_PER_STEP):
            found, hope = self._practise(found, hope)
        for _ in range(RESTARTS):
            if self._improvement(found, found.variance, rewards[0]).max() >= NEGLIGIBLE * abs(rewards[0]):
                break
            self._policy.relax(RESTART_RELAX)
            found, hope = self._practise(found, hope)
        rows = [
            row for row in np.argsort(-hope, kind="stable") if found.architectures[row] not in self._known
        ]
        if not rows:
            return []
        new = found[np.array(rows)]
        asked = self._choose(new, rewards[0], n)
        self._pool = tuple(p for p in new.architectures[: POOL + n] if p not in self._known)
        return asked

    def _practise(self, found: _Candidates, hope: Floats) -> tuple[_Candidates, Floats]:
        """One step of the policy on what the model foretells; the candidates with those sampled on the way."""
        self._policy.relax(RELAX)
        drawn = self._policy.draw(SAMPLES, self._rng)
        elite = np.argsort(-hope, kind="stable")[:ELITE]
        models = [found.architectures[row] for row in self._rng.choice(elite, VARIED)]
        varied = self._policy.redraw(models, np.resize(CHANGES, VARIED), self._rng, VARIED_UNIFORM)
        there = {point: row for row, point in enumerate(found.architectures)}
        new = [point for point in dict.fromkeys([*drawn, *varied]) if point not in there]
        if new:
            there.update(zip(new, range(len(there), len(there) + len(new)), strict=True))
            looked = self._look(new)
            found, hope = found.followed_by(looked), np.concatenate([hope, self._hope(looked)])
        rewards = hope[[there[point] for point in drawn]]
        spread = float(rewards.std())
        advantages = (rewards - rewards.mean()) / spread if spread > 0 else np.zeros_like(rewards)
        best = [found.architectures[row] for row in np.argsort(-hope, kind="stable")[:ELITE]]
        imitation = np.full(len(best), IMITATION_WEIGHT)
        self._policy.ascend(
            self._policy.gradient(drawn, advantages, ENTROPY_WEIGHT)
            + self._policy.gradient(best, imitation, 0.0)
        )
        return found, hope

    def _choose(self, candidates: _Candidates, best: float, n: int) -> list[Architecture]:
        """Those of greatest expected improvement on `best`, each as if the others were evaluated as foretold."""
        variance = candidates.variance
        if n > 1 or self._pending:
            worth = self._improvement(candidates, variance, best)
            candidates = candidates[np.argsort(-worth, kind="stable")[: POOL + n]]
            covariance = self._model.covariance(candidates.points, candidates.points)
            if self._pending:
                waiting = list(self._pending)
                points = self._points(waiting, self._objective.cost(waiting))
                between = self._model.covariance(candidates.points, points)
                own = self._model.covariance(points, points) + self._model.noise * np.eye(len(waiting))
                covariance = covariance - between @ np.linalg.solve(own, between.T)
            variance = np.maximum(covariance.diagonal(), 0.0)
        chosen: list[int] = []
        while len(chosen) < min(n, len(candidates.architectures)):
            worth = self._improvement(candidates, variance, best)
            worth[chosen] = -np.inf
            row = int(worth.argmax())
            chosen.append(row)
            if len(chosen) < n:
                bound = np.sqrt(variance * variance[row])  # Cauchy and Schwarz; rounding may have left it
                column = np.clip(covariance[:, row], -bound, bound)
                column /= np.sqrt(variance[row] + self._model.noise)
                covariance = covariance - np.outer(column, column)
                variance = np.maximum(covariance.diagonal(), 0.0)
        asked = [candidates.architectures[row] for row in chosen]
        for point in asked:
            self._known.add(point)
        return asked

    def _improvement(self, candidates: _Candidates, variance: Floats, best: float) -> Floats:
        """Expected gain of reward over `best`, `(n,)`; where nothing gains, a trace of the hope orders them."""
        deviation = np.sqrt(variance)
        gain = np.zeros(len(variance))
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            rewards = self._rewards(unlink(candidates.mean + node * deviation), candidates.cost)
            gain += weight * np.maximum(rewards - best, 0.0)
        hope = self._rewards(unlink(candidates.mean + OPTIMISM * deviation), candidates.cost)
        return np.asarray(gain + 1e-9 * hope)
