"""Where the heavy steps of curation run: in this process, or on Daft (see `curate.likeness.daft_engine`)."""

from __future__ import annotations

from curate.likeness.local_engine import LOCAL as LOCAL
from curate.likeness.local_engine import Engine as Engine
from curate.settings import CurateSettings


def engine_for(settings: CurateSettings) -> Engine:
    """The engine that `settings` name. NotFoundError where it is not installed, StoreError where it cannot be started."""
    if settings.engine == "local":
        return LOCAL
    from curate.likeness.daft_engine import start

    return start(settings.engine, settings.ray_address)
