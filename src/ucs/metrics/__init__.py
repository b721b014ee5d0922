"""Agreement of segmentations: cells against cells, transcripts against cells, and the simplest baselines."""

from __future__ import annotations

from ucs.metrics._baselines import expand_nuclei
from ucs.metrics._match import match
from ucs.metrics._transcripts import transcript_assignment

__all__ = ["expand_nuclei", "match", "transcript_assignment"]
