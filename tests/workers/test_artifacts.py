"""The artifact store: whole files or none, whatever is killed; damage is noticed."""

import hashlib
import random
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.errors import CorruptArtifact, NotFound
from workers.artifacts import ArtifactStore

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    return path


def flip_a_bit(path):
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[1234] ^= 1
    path.write_bytes(data)


def test_a_file_is_stored_under_the_hash_of_its_content(store, source):
    artifact = store.put(source)
    assert (artifact.sha256, artifact.size_bytes) == (SHA256, len(CONTENT))
    assert store.path(SHA256).name == SHA256
    assert store.verify(SHA256).read_bytes() == CONTENT
    with store.open(SHA256) as file:
        assert file.read() == CONTENT
    assert source.exists()


def test_a_stored_file_can_be_read_by_all_and_written_by_none(store, source):
    store.put(source)
    assert stat.S_IMODE(store.path(SHA256).stat().st_mode) == 0o444


def test_a_file_made_in_scratch_is_moved_not_copied(store):
    with store.scratch() as path:
        path.write_bytes(CONTENT)
        inode = path.stat().st_ino
        store.adopt(path)
        assert not path.exists()
    assert store.path(SHA256).stat().st_ino == inode


def test_scratch_is_empty_after_a_failure(store, tmp_path):
    with pytest.raises(KeyError), store.scratch() as path:
        path.write_bytes(b"half")
        raise KeyError
    assert list((tmp_path / "artifacts" / "scratch").iterdir()) == []


def test_a_flipped_bit_is_noticed(store, source):
    store.put(source)
    flip_a_bit(store.path(SHA256))
    with pytest.raises(CorruptArtifact, match="damaged"):
        store.verify(SHA256)


def test_storing_the_same_content_again_repairs_it(store, source):
    store.put(source)
    flip_a_bit(store.path(SHA256))
    store.put(source)
    assert store.verify(SHA256).read_bytes() == CONTENT


def test_threads_that_store_the_same_file_together_leave_one(store, source):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: store.put(source), range(16)))
    assert store.addresses() == [SHA256]
    store.verify(SHA256)


@pytest.mark.parametrize("sha256", ["0" * 64, "", "..", "../../etc/passwd", SHA256.upper(), SHA256 + "\n"])
def test_what_is_not_there_or_no_hash_is_not_found(store, source, sha256):
    store.put(source)
    with pytest.raises(NotFound):
        store.path(sha256)
    with pytest.raises(NotFound):
        store.verify(sha256)


def test_a_deleted_file_is_gone_and_deleting_it_again_is_no_error(store, source):
    store.put(source)
    assert store.delete(SHA256)
    assert store.delete(SHA256)
    assert not store.exists(SHA256)


def test_a_file_that_was_just_stored_can_be_spared(store, source):
    store.put(source)
    assert not store.delete(SHA256, idle_s=60)
    assert store.exists(SHA256)


def test_cleaning_deletes_what_a_dead_process_has_left_in_scratch(store, tmp_path):
    left = tmp_path / "artifacts" / "scratch" / "half"
    left.write_bytes(b"half")
    store.clean(idle_s=60)
    assert left.exists()
    store.clean(idle_s=0)
    assert not left.exists()


KILLED_AT_CALL = """
import os, signal, sys
from pathlib import Path
from workers.artifacts import ArtifactStore

root, source, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
store = ArtifactStore(root)
calls = 0

def kill_at_call(frame, event, called):
    # Every call into C: opening, copying, hashing, fsync, chmod, rename, fsync of the folder, ...
    global calls
    if event == "c_call":
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.setprofile(kill_at_call)
store.put(source)
sys.setprofile(None)
"""


def put_killed_at(call, root, source):
    """Run put() in a process that kills itself with -9 at its n-th call into C; whether it was killed."""
    code = subprocess.run(
        [sys.executable, "-c", KILLED_AT_CALL, str(root), str(source), str(call)]
    ).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_a_kill_at_any_moment_leaves_the_whole_file_or_none(store, source, tmp_path):
    root = tmp_path / "artifacts"
    outcomes = []
    call = 1
    while put_killed_at(call, root, source):
        stored = store.addresses()
        if stored:
            assert stored == [SHA256]
            store.verify(SHA256)
            store.delete(SHA256)
        outcomes.append(bool(stored))
        call += 3
    assert set(outcomes) == {False, True}
    assert store.verify(SHA256).read_bytes() == CONTENT


def test_a_kill_while_repairing_leaves_the_old_file_or_the_new(store, source, tmp_path):
    root = tmp_path / "artifacts"
    store.put(source)
    flip_a_bit(store.path(SHA256))
    damaged = store.path(SHA256).read_bytes()
    call = 1
    while put_killed_at(call, root, source):
        assert store.path(SHA256).read_bytes() in (damaged, CONTENT)
        call += 9
    store.verify(SHA256)


def test_two_stores_on_one_folder_see_the_same_files(store, source, tmp_path):
    store.put(source)
    assert ArtifactStore(tmp_path / "artifacts").exists(SHA256)
