"""Every error that Potstill raises on purpose.

    PotstillError                     shown to people as it is: what went wrong, with which value, what to do next
      |- SettingsError                potstill.toml or the environment says something we refuse
      |- StoreError                   the store cannot be opened, read or written
      |    '- NewerStoreError         the store was written by a newer Potstill
      |- SpoolError                   a spool folder cannot be used
      |- NotFoundError                no such task, exchange, dataset, run, adapter, release or flag
      |- FeedbackError                a feedback cannot be taken as it was given
      |- NotEnoughError               too few exchanges or examples for what was asked
      |- GateError                    a check said no: overlap, evaluation gate, parity
      |- UpstreamError                an upstream or the engine could not be reached or answered wrongly
      |- EngineError                  the engine does not start, or died
      |- TrainingError                a run failed
      '- PortTakenError               somebody else listens on our port

Each takes one sentence for what happened and, as `next_step`, one for what to do.
"""

from __future__ import annotations


class PotstillError(Exception):
    """Something went wrong that a person can act on.

    `next_step` is one sentence in the imperative; it may be empty where there is nothing to do.
    """

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what} {next_step}".strip())
        self.what = what
        self.next_step = next_step


class SettingsError(PotstillError):
    """The configuration says something that we refuse."""


class StoreError(PotstillError):
    """The store cannot be opened, read or written."""


class NewerStoreError(StoreError):
    """The store was written by a newer Potstill."""


class SpoolError(PotstillError):
    """A spool folder cannot be used."""


class NotFoundError(PotstillError):
    """What was asked for does not exist."""


class FeedbackError(PotstillError):
    """A feedback cannot be taken as it was given."""


class RetentionError(PotstillError):
    """Retention would remove more than is safe, or the clock cannot be trusted."""


class NotEnoughError(PotstillError):
    """There are too few exchanges or examples for what was asked."""


class GateError(PotstillError):
    """A check that guards the next step said no."""


class UpstreamError(PotstillError):
    """An upstream, or the engine, could not be reached or answered wrongly."""


class EngineError(PotstillError):
    """The engine does not start, or died."""


class TrainingError(PotstillError):
    """A run failed."""


class PortTakenError(PotstillError):
    """Somebody else listens on the port."""
