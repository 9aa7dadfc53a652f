"""The backend that computes nothing."""

import numpy as np
import pytest
from bladescan_backends.fake import FakeBackend

from bladescan.base.errors import BackendError
from tests.tiny import crops


def test_the_fake_backend_scores_pixel_statistics():
    fake = FakeBackend()
    x = crops(3)
    x[1] = 77
    scores = fake.score(x)
    assert scores.log_likelihood[1] == 0
    assert scores.p_ai_generated[1] == pytest.approx(77 / 255)
    np.testing.assert_allclose(np.linalg.norm(scores.embedding, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(fake.score(x[2:]).log_likelihood, scores.log_likelihood[2:])
    assert fake.score(x[:0]).embedding.shape == (0, 768)
    fake.close()
    fake.close()
    with pytest.raises(BackendError, match="closed"):
        fake.embed(x)
