"""The thumbnails of many images in the order of the images, made ahead by processes that may die."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

from bladescan.base.errors import ImageError
from bladescan.base.records import Verdict
from bladescan.processes.pool import WorkerPool
from bladescan.reviewing.thumbnail_process import (
    MAKING_THUMBNAILS,
    ThumbnailRequest,
    Thumbnails,
    ThumbnailSettings,
    ThumbnailsReady,
    WantedFace,
)
from bladescan.reviewing.verdict_files import ReviewedImage
from bladescan.sources.fetching import Fetcher, PendingFetch, fetch_ahead
from bladescan.sources.source import Source

ThumbnailPool = WorkerPool[ThumbnailSettings, ThumbnailsReady, ThumbnailRequest, Thumbnails]


def thumbnail_pool(n: int, settings: ThumbnailSettings) -> ThumbnailPool:
    """Prepare ``n`` processes for thumbnails behind a queue."""
    return WorkerPool(n, MAKING_THUMBNAILS, settings, settings.timeout_s)


def with_thumbnails(
    images: Iterable[ReviewedImage], pool: ThumbnailPool
) -> Iterator[tuple[ReviewedImage, Thumbnails]]:
    """Make thumbnails ahead by a bounded window; hand on in the order of the images.

    Args:
        images: files by their paths, or objects by their URLs, which are fetched.
        pool: who makes them.
    """
    waiting: deque[tuple[ReviewedImage, Future[Thumbnails]]] = deque()
    listed: deque[ReviewedImage] = deque()
    with Fetcher(pool.settings.limits.max_bytes, pool.settings.timeout_s) as fetcher:
        for source, fetched in fetch_ahead(_sources(images, listed), fetcher):
            assert source is not None
            image = listed.popleft()
            waiting.append((image, _submit(image, fetched, fetcher, pool)))
            if len(waiting) > 2 * pool.n:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _sources(images: Iterable[ReviewedImage], listed: deque[ReviewedImage]) -> Iterator[Source]:
    for image in images:
        listed.append(image)
        yield Source(image.path)


def _submit(
    image: ReviewedImage, fetched: PendingFetch | None, fetcher: Fetcher, pool: ThumbnailPool
) -> Future[Thumbnails]:
    if fetched is None:
        return pool.submit(_request(image, None))
    try:
        body = fetched.body.result()
    except ImageError as exc:
        fetcher.release(fetched.ticket)
        done: Future[Thumbnails] = Future()
        done.set_result(Thumbnails(reason=exc.reason, detail=exc.detail))
        return done
    future = pool.submit(_request(image, body.data))
    future.add_done_callback(lambda _: fetcher.release(fetched.ticket))
    return future


def _request(image: ReviewedImage, data: bytes | None) -> ThumbnailRequest:
    faces = tuple(
        WantedFace(face.frame, face.box, face.rotation or 0, face.subject == "image") for face in image.faces
    )
    unread = image.verdict == Verdict.UNREADABLE.value
    return ThumbnailRequest(os.fsencode(image.path), faces, data, hash_only=unread)
