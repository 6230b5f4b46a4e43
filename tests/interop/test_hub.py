import base64
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from partsig.errors import CheckpointError, ConfigError
from partsig.interop import PartStager, fetch, push_to_hub
from partsig.verbs.export import export

hub = pytest.importorskip("huggingface_hub")
REPO = "someone/stager"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(stager_run, tmp_path_factory):
    return export(stager_run, tmp_path_factory.mktemp("hub") / "export").path


@pytest.fixture
def server():
    """A hub that keeps what it is sent, as far as uploading a folder needs one."""
    kept = {"files": {}, "visibility": None, "refuse": False}

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = f"http://127.0.0.1:{self.server.server_port}/{REPO}"
            if kept["refuse"]:
                return self.answer({"error": "not yours"}, 403)
            if self.path == "/api/repos/create":
                kept["visibility"] = json.loads(body).get("visibility")
                return self.answer({"url": url, "name": REPO})
            if self.path == "/api/validate-yaml":
                kept["card"] = json.loads(body)["content"]
                return self.answer({"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
                return self.answer({"files": modes})
            assert "/commit/" in self.path, self.path
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    kept["files"][line["value"]["path"]] = content
            return self.answer({"commitOid": COMMIT, "commitUrl": f"{url}/commit/{COMMIT}"})

        def do_GET(self):
            status = 404 if kept["refuse"] else 200
            self.answer({"id": REPO, "siblings": [], "sha": COMMIT}, status)

        def answer(self, value, status=200):
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    kept["url"] = f"http://127.0.0.1:{running.server_port}"
    yield kept
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_folder_is_itself(folder, tmp_path):
    assert fetch(folder) == folder
    with pytest.raises(ConfigError, match="is a folder here and has no revision 'v1'"):
        fetch(folder, "v1")


def test_a_name_is_looked_up_in_the_hubs_cache(folder, stager_run, tmp_path, monkeypatch):
    """The cache as the hub's client lays it out, and no network."""
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    place = tmp_path / "models--someone--stager"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    for name in ("main", "v1"):
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / name).write_text(COMMIT)
    for revision in (None, "v1"):
        found = fetch(REPO, revision, cache_dir=tmp_path)
        assert found == place / "snapshots" / COMMIT
    x = 20 * torch.randn(2, 3, 3000)
    with torch.inference_mode():
        ours = PartStager.from_run(stager_run)(x)
        assert torch.equal(PartStager.from_pretrained(found)(x), ours)
    with pytest.raises(CheckpointError, match="someone/other is neither a folder nor a model"):
        fetch("someone/other", cache_dir=tmp_path)
    with pytest.raises(CheckpointError, match="neither a folder nor"):
        PartStager.from_pretrained("not/a/name")


def test_what_is_sent_is_the_folder(folder, server, tmp_path):
    told = push_to_hub(folder, REPO, endpoint=server["url"], token="hf_none")
    assert told == f"{server['url']}/{REPO}/commit/{COMMIT}"
    assert server["visibility"] == "private"
    assert server["files"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, content in server["files"].items():
        (tmp_path / name).write_bytes(content)
    assert PartStager.from_pretrained(tmp_path).n_outputs == 5


def test_a_run_is_exported_and_a_refusal_is_told(stager_run, server, tmp_path):
    run = shutil.copytree(stager_run, tmp_path / "run")  # the export is kept in it
    push_to_hub(run, REPO, endpoint=server["url"], token="hf_none", private=False)
    assert set(server["files"]) == {"README.md", "config.json", "model.safetensors"}
    assert server["visibility"] == "public"
    server["refuse"] = True
    with pytest.raises(CheckpointError, match=r"someone/stager was not sent .*403"):
        push_to_hub(run, REPO, endpoint=server["url"], token="hf_none")
