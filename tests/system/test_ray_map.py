"""Tasks of Ray: each item has its result, and one that ends its process has none."""

import os

import pytest

from ltdiff.system.ray_map import map_on_ray


@pytest.mark.slow
def test_an_item_that_crashes_or_fails_costs_itself():
    def double(number):
        if number == 2:
            os._exit(1)
        if number == 3:
            raise KeyError(number)
        return 2 * number

    assert dict(map_on_ray(double, range(5), num_workers=2)) == {0: 0, 1: 2, 2: None, 3: None, 4: 8}
