"""A publisher of checkpoints on this machine."""

from collections.abc import Iterator

import pytest

from tests.models.checkpoints.serving import Publisher, publishing


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as found:
        yield found
