"""A trainer with a small engine of its own: softmax regression in NumPy, which starts in a second.

Everything else is the real thing: messages, data, `fit`, checkpoints, the parts of a prediction. The job's metadata
says how it misbehaves: `slow_s` (every step, or batch of a prediction, takes so long), `slow_again_s` (but in later
attempts so long), `kill_at` (it kills itself with SIGKILL at this step), `kill_attempts` (but only in the first so many
attempts), `deaf_at` (from this step on it stops answering), `say` (a line it prints first).
"""

import argparse
import os
import signal
import sys
import time

import numpy as np

from workers import messages
from workers.observer import Channel, Inbox
from workers.trainer import Trainer


class Done:
    def __init__(self, results):
        self.results = results

    def result(self):
        return self.results


class Softmax:
    """`models.engine.Trainer` for the `linear` architecture and plain SGD, in float64."""

    stride, compile_s, device, resident = 1, 0.0, "cpu (numpy)", False

    def __init__(self, definition, splits, weights, step, habits, fence):
        self.normalisation, self.splits, self.step = definition.normalisation, splits, step
        self.habits, self.fence = habits, fence
        self.weight = weights["linear.weight"].astype(np.float64)
        self.bias = weights["linear.bias"].astype(np.float64)

    def run(self, segment):
        return Done(
            np.array(
                [
                    self.one_step(rows, rate)
                    for rows, rate in zip(segment.indices, segment.learning_rates, strict=True)
                ]
            )
        )

    def one_step(self, rows, rate):
        self.misbehave()
        x, y = self.inputs(self.splits["train"].x[rows]), self.splits["train"].y[rows]
        logits = x @ self.weight.T + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = -np.log(probabilities[np.arange(len(y)), y]).mean()
        gradient = (probabilities - np.eye(probabilities.shape[1])[y]) / len(y)
        self.weight -= rate * gradient.T @ x
        self.bias -= rate * gradient.sum(axis=0)
        self.step += 1
        return loss, (logits.argmax(axis=1) == y).sum()

    def misbehave(self):
        time.sleep(self.habits.get("slow_again_s" if self.fence > 1 else "slow_s", 0.0))
        if self.step == self.habits.get("kill_at") and self.fence <= self.habits.get("kill_attempts", 99):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.step == self.habits.get("deaf_at"):
            time.sleep(1000)

    def inputs(self, x):
        scaled = (x.astype(np.float64) - self.normalisation.mean) * self.normalisation.inverse_std
        return scaled.transpose(0, 3, 1, 2).reshape(len(x), -1)

    def outputs(self, split, batch_size):
        x = self.splits[split].x
        for start in range(0, len(x), batch_size):
            yield self.inputs(x[start : start + batch_size]) @ self.weight.T + self.bias

    def weights(self):
        return {"linear.weight": self.weight.copy(), "linear.bias": self.bias.copy()}

    def slots(self):
        return {}

    def load_weights(self, weights):
        self.weight, self.bias = weights["linear.weight"], weights["linear.bias"]


class Scoring(Softmax):
    """`models.engine.Predictor` of the same network; a step is a batch."""

    def __init__(self, definition, weights, habits, fence):
        super().__init__(definition, None, weights, 0, habits, fence)

    def logits(self, x):
        self.misbehave()
        self.step += 1
        return (self.inputs(x) @ self.weight.T + self.bias).astype(np.float32)


class ToyEngine:
    def __init__(self, habits, fence):
        self.habits, self.fence = habits, fence

    def predictor(self, definition, weights, *, device="cpu", precision="float32"):
        return Scoring(definition, weights, self.habits, self.fence)

    def trainer(self, definition, training, splits, weights, slots, step, *, device="auto"):
        return Softmax(definition, splits, weights, step, self.habits, self.fence)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages-fd", type=int, required=True)
    channel, inbox = Channel(parser.parse_args().messages_fd), Inbox(sys.stdin.buffer)
    channel.say(messages.Ready())
    assignment = inbox.assignment()
    habits = assignment.spec.metadata
    if "say" in habits:
        print(habits["say"])
    channel.say(Trainer(ToyEngine(habits, assignment.fence), assignment, channel, inbox).run())
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
