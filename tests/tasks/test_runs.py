"""The run that finished last is found by the ends of what runs say of themselves."""

import json
import random
import shutil

import pytest

from partsig import regular
from partsig.errors import CheckpointError
from partsig.files import write_json
from partsig.runs import directory as runs


def plainly(kind, where):
    """The same by reading every run whole; None where there is none."""
    found = []
    for file in where.glob("*/run.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["kind"] == kind and record["state"] == "finished":
            found.append((record["finished"], file.parent))
    return max(found)[1] if found else None


def write(path, generator):
    """Write a run of any kind and state, as this partsig does, in another order, or on one line."""
    path.mkdir()
    names = [f"tr03-{i:04d}" for i in range(generator.choice((0, 3, 300)))]
    clock = f"2026-01-{generator.randint(1, 28):02d}T{generator.randint(0, 23):02d}:00:00+00:00"
    record = {
        "kind": generator.choice(("pretrain", "finetune")),
        "state": generator.choice(("running", "finished")),
        "started": "2026-01-01T00:00:00+00:00",
        "config": {"finished": "9999-01-01T00:00:00+00:00", "kind": "finetune"},
        "note": ',\n  "finished": "9999-01-01T00:00:00+00:00"\n}\n',
        "subjects_seen": names,
    }
    if record["state"] == "finished":
        record["finished"] = clock
    if generator.random() < 0.4:
        record["later"] = names
    if generator.random() < 0.3:
        record = dict(generator.sample(list(record.items()), len(record)))
    if generator.random() < 0.2:
        (path / "run.json").write_text(json.dumps(record))
    else:
        write_json(path / "run.json", record)


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_one_that_a_full_reading_finds(seed, tmp_path):
    generator = random.Random(seed)
    for number in range(generator.randint(1, 30)):
        write(tmp_path / f"run{number}", generator)
    for kind in ("pretrain", "finetune"):
        expected = plainly(kind, tmp_path)
        if expected is None:
            with pytest.raises(CheckpointError, match=f"no finished {kind} run in"):
                runs.last(kind, tmp_path)
        else:
            assert runs.last(kind, tmp_path) == expected


def test_little_of_every_run_is_read(tmp_path, monkeypatch):
    subjects = {"split": {"train": [f"tr03-{i:04d}" for i in range(1983)]}}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_json(
            tmp_path / name / "run.json", {"kind": "finetune", "state": "running", **subjects}
        )
        runs.finish(tmp_path / name, n_epochs=1)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    write_json(tmp_path / "c" / "run.json", runs.read(tmp_path / "c") | {"state": "running"})
    read, real = [], regular.open_bytes
    monkeypatch.setattr(regular, "open_bytes", lambda path: Watched(real(path), read))
    monkeypatch.setattr(regular, "open_text", None)  # no run is read whole
    assert runs.last("finetune", tmp_path) == tmp_path / "b"
    assert 0 < sum(map(len, read)) <= 3 * 512


class Watched:
    """A file that remembers what was read of it."""

    def __init__(self, handle, read):
        self.handle, self.seen = handle, read

    def read(self, *n):
        self.seen.append(self.handle.read(*n))
        return self.seen[-1]

    def __getattr__(self, name):
        return getattr(self.handle, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.handle.close()


def test_a_damaged_run_is_told(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text('{\n  "kind": "finetune",\n  "state": "finished",\n')
    with pytest.raises(CheckpointError, match="no finished finetune run in"):
        runs.last("finetune", tmp_path)
    assert "run.json" in capsys.readouterr().err
