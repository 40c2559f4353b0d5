"""Masks that are lengths warn at each load; `test_layers.py` has the warning."""

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if "keras_files" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("ignore:load. .* masks steps by their numbers"))
