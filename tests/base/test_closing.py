import pytest

from bladescan.base.closing import Closing


class Door(Closing):
    open = True

    def close(self):
        self.open = False


def test_a_with_block_closes_however_it_ends():
    with Door() as door:
        assert door.open
    assert not door.open
    with pytest.raises(KeyError), Door() as door:
        raise KeyError
    assert not door.open
