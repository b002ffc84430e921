"""The PostgreSQL server that tests use: shared, durable, and gone with the last process that used it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import postgres
from tests.support.waiting import eventually

OTHER = """
import sys, time
from pathlib import Path
from tests.support import postgres
with postgres.cluster(Path(sys.argv[1])) as cluster:
    print(cluster.folder, flush=True)
    time.sleep(600)
"""


def test_a_server_is_shared_survives_a_crash_and_ends_with_its_last_user(tmp_path: Path) -> None:
    postgres.require()
    with postgres.cluster(tmp_path) as cluster:
        other = subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        with other.stdout:
            assert other.stdout.readline().strip() == str(cluster.folder)
        with cluster.database() as first, cluster.database() as second:
            cluster.run("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)", first)
            cluster.crash()
            assert cluster.run("SELECT n FROM kept", first) == "7"
            assert cluster.run("SELECT count(*) FROM pg_tables WHERE tablename = 'kept'", second) == "0"
        assert cluster.run("SHOW fsync; SHOW synchronous_commit") == "on\non"
        with cluster.down():
            assert not cluster.is_ready()
    assert cluster.is_ready(), "another process uses it"
    other.kill()
    other.wait()
    eventually(lambda: not cluster.folder.exists())
