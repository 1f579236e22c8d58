"""Many supervisors, slow ones and reconcilers at once: each job is published exactly once."""

import itertools
import threading
import time

from workers import dispatch, job_queries, jobs, registry


class Storm:
    """Eight supervisors, half of them slower than their lease, and two reconcilers, until all jobs have finished."""

    def __init__(self, db, waiting, result):
        self.db, self.waiting, self.result = db, waiting, result
        self.published = []
        self.over = threading.Event()

    def rage(self, longest_s):
        threads = [threading.Thread(target=self.supervise, args=(number % 2 == 0,)) for number in range(8)]
        threads += [threading.Thread(target=self.reconcile) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + longest_s
        while len(self.published) < len(self.waiting) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.over.set()
        for thread in threads:
            thread.join()

    def supervise(self, slow):
        while not self.over.is_set():
            for job_id in self.waiting:
                claim = jobs.claim(self.db, job_id, worker="w", host="h", lease_s=0.02 if slow else 30)
                if claim is not None:
                    time.sleep(0.06 if slow else 0.001)
                    self.publish(claim)

    def publish(self, claim):
        if jobs.finish(self.db, claim.job.id, claim.fence, self.result) is not None:
            self.published.append((claim.job.id, claim.fence))

    def reconcile(self):
        while not self.over.is_set():
            dispatch.expire_leases(self.db)
            time.sleep(0.005)


def test_a_storm_of_claims_expiries_and_results_publishes_each_job_once(db, queued, model, is_done):
    waiting = [queued(max_attempts=50).id for _ in range(8)]
    storm = Storm(db, waiting, model())
    storm.rage(longest_s=30)
    found = job_queries.page(db).data
    assert {job.status for job in found} == {"succeeded"}
    # Once each, and by the attempt that the job belonged to, not by one that was given up.
    assert sorted(storm.published) == sorted((job.id, job.fence) for job in found)
    versions = [version.version for version in registry.get(db, "digits-mlp").versions]
    assert sorted(versions) == list(range(1, len(waiting) + 1))
    for job_id in waiting:
        fences = [attempt.fence for attempt in job_queries.attempts(db, job_id)]
        assert all(later > earlier for earlier, later in itertools.pairwise(fences))
        assert is_done(job_id)
