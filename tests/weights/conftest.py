"""Fixtures of tests that write PyTorch's files themselves."""

import pytest

from tinyrnn.errors import LoadError
from tinyrnn.weights import load_weights


@pytest.fixture
def load(tmp_path):
    def load(data, key=None, name="model.pt"):
        (tmp_path / name).write_bytes(data)
        return load_weights(tmp_path / name, key=key)

    return load


@pytest.fixture
def refused(load):
    def refused(data, *words, **more):
        with pytest.raises(LoadError) as info:
            load(data, **more)
        for word in ("model.pt", *words):
            assert word in str(info.value)
        assert len(str(info.value)) < 1500 and str(info.value).isprintable()

    return refused
