"""Decoder processes and pools of them. They open images; this process never does."""

from __future__ import annotations

from bladescan.processes.pool import WorkerPool
from bladescan.processes.worker import WorkerProcess
from bladescan.scanning.decoder_process import DECODING, Decoded, DecoderSettings, Ready, Request

DecoderProcess = WorkerProcess[DecoderSettings, Ready, Request, Decoded]
DecoderPool = WorkerPool[DecoderSettings, Ready, Request, Decoded]


def decoder_process(settings: DecoderSettings) -> DecoderProcess:
    """Prepare one decoder process, which starts when it is first needed."""
    return WorkerProcess(DECODING, settings, settings.timeout_s)


def decoder_pool(n: int, settings: DecoderSettings) -> DecoderPool:
    """Prepare ``n`` decoder processes behind a queue."""
    return WorkerPool(n, DECODING, settings, settings.timeout_s)
