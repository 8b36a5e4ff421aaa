"""Real stores for the tests: the embedded Valkey, and Debian's redis-server where it is installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandit.embedded import find_binary
