"""The names by which pickles of earlier versions know what has moved. New code imports from the new rooms."""

from tinyrnn.loading import load
from tinyrnn.net import Memory, Net
from tinyrnn.saving import rebuilt as _rebuild
from tinyrnn.sequential import Sequential
from tinyrnn.state_dicts import LoadResult

__all__ = ["LoadResult", "Memory", "Net", "Sequential", "_rebuild", "load"]
