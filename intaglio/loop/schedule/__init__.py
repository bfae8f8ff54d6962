"""The schedule language: how a kernel runs, as a list of records that print, parse back, check and explain.

A schedule starts from a plain nest and changes it step by step, in the words of the field: split, tile,
reorder, fuse, unroll, parallel (`loops.py`), vectorize (`lanes.py`), specialise (`edges.py`), cache_write,
cache_read, pad (`staging.py`), layout, pack (`layouts.py`), compute_at (`producers.py`),
prefetch (`ahead.py`), tensorize (`intrinsics.py`). A step that is not
legal is refused with the reason. `program.py` schedules kernels of a program by name.
"""

from intaglio.loop.schedule.ahead import Prefetch
from intaglio.loop.schedule.edges import Specialise
from intaglio.loop.schedule.intrinsics import INTRINSICS, Tensorize
from intaglio.loop.schedule.lanes import Vectorize
from intaglio.loop.schedule.layouts import Layout, Pack
from intaglio.loop.schedule.loops import Fuse, Parallel, Reorder, Split, Tile, Unroll
from intaglio.loop.schedule.producers import ComputeAt
from intaglio.loop.schedule.program import kernel_names, schedule_of, schedule_program
from intaglio.loop.schedule.records import Record, parse_record, parse_records, print_records
from intaglio.loop.schedule.schedule import Schedule, Step
from intaglio.loop.schedule.staging import CacheRead, CacheWrite, Pad

__all__ = [
    "INTRINSICS",
    "CacheRead",
    "CacheWrite",
    "ComputeAt",
    "Fuse",
    "Layout",
    "Pack",
    "Pad",
    "Parallel",
    "Prefetch",
    "Record",
    "Reorder",
    "Schedule",
    "Specialise",
    "Split",
    "Step",
    "Tensorize",
    "Tile",
    "Unroll",
    "Vectorize",
    "kernel_names",
    "parse_record",
    "parse_records",
    "print_records",
    "schedule_of",
    "schedule_program",
]
