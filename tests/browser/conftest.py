"""Browser tests need a Chromium; where there is none they say so, and in continuous integration they fail."""

from __future__ import annotations

import os

import pytest

from tests.browser.harness import CHROMIUM


@pytest.fixture(autouse=True)
def _chromium() -> None:
    if CHROMIUM is None:
        why = "there is no Chromium: apt-get install chromium, or set CMBAGENT_TEST_CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
