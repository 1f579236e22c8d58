"""The part of the Python client that compares frameworks."""

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from app.connection import Connection, at
from app.replies import Comparison

ASKED_EVERY_S = 0.5


class Comparisons(Connection):
    """The same training in several frameworks, one job after another."""

    def compare(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Comparison:
        """Begin a comparison. `spec` is the body of `POST /comparisons`: a job's, with `frameworks` and `seeds` instead
        of `framework`; sending the same key twice makes one."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._comparison("POST", "/comparisons", json=dict(spec), headers=headers)

    def comparison(self, comparison_id: str) -> Comparison:
        """As it is now. How fast its model predicts is measured for whoever first asks once it has succeeded."""
        return self._comparison("GET", at("comparisons", comparison_id))

    def comparisons(
        self, *, status: str | None = None, dataset: str | None = None, limit: int | None = None
    ) -> Iterator[Comparison]:
        """Comparisons, newest first; all of them unless `limit` says how many."""
        wanted = {"status": status, "dataset": dataset}
        return self._pages("/comparisons", Comparison, limit, wanted)

    def follow_comparison(self, comparison_id: str) -> Iterator[Comparison]:
        """The comparison now and whenever one of its jobs has ended, until it has."""
        seen = None
        while True:
            found = self.comparison(comparison_id)
            if found.finished or found.progress != seen:
                yield found
            if found.finished:
                return
            seen = found.progress
            time.sleep(ASKED_EVERY_S)

    def wait_for_comparison(self, comparison_id: str) -> Comparison:
        """The comparison once it has ended, however that was."""
        *_, last = self.follow_comparison(comparison_id)
        return last

    def comparison_report(self, comparison_id: str, format: Literal["markdown", "html"] = "markdown") -> str:
        """The report, as a document."""
        headers = {"Accept": f"text/{format}"}
        return self._answer("GET", at("comparisons", comparison_id, "report"), headers=headers).text

    def cancel_comparison(self, comparison_id: str) -> Comparison:
        return self._comparison("POST", at("comparisons", comparison_id, "cancel"))

    def delete_comparison(self, comparison_id: str) -> None:
        """Its jobs and models stay."""
        self._answer("DELETE", at("comparisons", comparison_id))

    def _comparison(self, method: str, path: str, **request: Any) -> Comparison:
        return Comparison.model_validate(self._json(method, path, **request))
