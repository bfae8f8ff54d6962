"""Interleaved timing of peers in separate processes: what `intaglio bench` uses, for the scripts here."""

from intaglio.view.race import Peer, compare, probe, record, report, serve

__all__ = ["Peer", "compare", "probe", "record", "report", "serve"]
