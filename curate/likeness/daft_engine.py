"""The engine on Daft: its native runner uses all cores of this machine, its Ray runner a cluster.

The functions that are called are those of `similarity` and `buckets`, and rows carry numbers of ours (Daft's own depend on how
it cuts), so the result is that of the local engine byte for byte. A process can have one runner, once.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from capture.errors import NotFoundError, StoreError
from curate.likeness.buckets import LIMIT, Codes, bucket_pairs
from curate.likeness.local_engine import BATCH, KeysOf
from curate.likeness.similarity import Flags, Keys

_RUNNERS = {"daft": "native", "ray": "ray"}


class DaftEngine:
    """Everything on the Daft runner that `start` chose."""

    def map_batches(self, table: Any, function: Callable[..., Any], returns: Any) -> Any:
        """See `Engine`."""
        import daft
        import pyarrow as pa

        if not table.num_rows:
            return pa.array([], returns)
        call = _batch_function(lambda *columns: function(*map(_arrow, columns)), returns)
        numbered = daft.from_arrow(table.append_column("row", pa.array(np.arange(table.num_rows)))).into_batches(BATCH)
        found = numbered.select("row", call(*[daft.col(name) for name in table.column_names]).alias("value")).to_arrow()
        return found.sort_by("row").column("value").combine_chunks().cast(returns)

    def group_edges(self, texts: Any, keys: KeysOf) -> tuple[Codes, int]:
        """See `Engine`."""
        import daft
        import pyarrow as pa
        from daft.functions import length, list_agg

        if not len(texts):
            return np.empty(0, np.int64), 0
        of_texts = _batch_function(lambda text: _lists(keys(_arrow(text))), pa.list_(pa.uint64()))
        of_buckets = _batch_function(lambda rows: _pairs_of_lists(_arrow(rows)), pa.list_(pa.int64()))
        row, key, rows = daft.col("row"), daft.col("key"), daft.col("rows")
        numbered = daft.from_arrow(pa.table({"row": np.arange(len(texts)), "text": texts})).into_batches(BATCH)
        keyed = numbered.select("row", of_texts(daft.col("text")).alias("key")).explode(key)
        buckets = keyed.groupby("key").agg(list_agg(row).alias("rows")).where(length(rows) > 1).select("rows").collect()
        codes = buckets.select(of_buckets(rows).alias("code")).explode(daft.col("code")).distinct().to_arrow()
        found = codes.column("code").drop_null().to_numpy().astype(np.int64)
        return np.sort(found), buckets.where(length(rows) > LIMIT).count_rows()

    def semi_join(self, left: Keys, right: Keys) -> Flags:
        """See `Engine`."""
        import daft
        import pyarrow as pa

        flags = np.zeros(len(left), np.bool_)
        if len(left) and len(right):
            rows = daft.from_arrow(pa.table({"row": np.arange(len(left)), "key": left}))
            known = daft.from_arrow(pa.table({"key": np.unique(right)}))
            found = rows.join(known, on="key", how="semi").select("row").to_arrow()
            flags[found.column("row").to_numpy()] = True
        return flags


def start(runner: str, ray_address: str) -> DaftEngine:
    """The engine `daft` or `ray`, on the cluster at `ray_address` or one that is started here.

    A cluster gets this program's own packages; numpy, pyarrow and daft it must have. NotFoundError where Daft or Ray is not
    installed, StoreError where this process has another runner already or the cluster cannot be reached.
    """
    os.environ.setdefault("DO_NOT_TRACK", "true")  # neither Daft nor Ray reports home
    os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    try:
        import daft
        from daft.runners import get_or_infer_runner_type
    except ImportError as error:
        raise NotFoundError(f"Engine {runner!r} is not installed.", "pip install 'potstill[distributed]'") from error
    if runner == "ray":
        _join_cluster(ray_address)
    try:
        if runner == "ray":
            daft.set_runner_ray(noop_if_initialized=True)
        else:
            daft.set_runner_native()
    except Exception as error:
        if "more than once" not in str(error):
            raise
    if get_or_infer_runner_type() != _RUNNERS[runner]:
        what = f"This process runs Daft on its {get_or_infer_runner_type()} runner, and engine {runner!r} needs another."
        raise StoreError(what, "Use one engine in a process: run the command again.")
    return DaftEngine()


def _join_cluster(address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise NotFoundError("Ray is not installed.", "pip install 'potstill[distributed]'") from error
    if ray.is_initialized():
        return
    if address:
        import capture
        import curate

        try:
            ray.init(address, runtime_env={"py_modules": [capture, curate]}, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            what = f"The Ray cluster at {address} cannot be joined: {error}"
            raise StoreError(what, "Check ray_address in section [curate], and RAY_AUTH_MODE or the token.") from error
        return
    # A path of its own and short: Ray puts sockets into it, whose names may have 107 characters.
    folder = tempfile.mkdtemp(prefix="ray-")
    atexit.register(_leave, folder)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING, _temp_dir=folder)


def _leave(folder: str) -> None:
    import ray

    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)  # its last processes may still write here


def _batch_function(function: Callable[..., Any], returns: Any) -> Callable[..., Any]:
    import daft

    wrapped: Callable[..., Any] = daft.func.batch(return_dtype=daft.DataType.from_arrow_type(returns))(function)
    return wrapped


def _arrow(series: Any) -> Any:
    import pyarrow as pa

    found = series.to_arrow()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _lists(keys: Keys) -> Any:
    import pyarrow as pa

    offsets = np.arange(len(keys) + 1, dtype=np.int32) * keys.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(keys.ravel()))


def _pairs_of_lists(buckets: Any) -> Any:
    """The pairs of each bucket, as one list a bucket."""
    import pyarrow as pa

    found = [bucket_pairs(np.sort(np.array(rows, np.int64)), np.array([0, len(rows)]))[0] for rows in buckets.to_pylist()]
    return pa.array(found, pa.list_(pa.int64()))
