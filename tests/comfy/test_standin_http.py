"""The stand-in answers single requests as the recorded server did."""

from __future__ import annotations

import io
import json
import re

import pytest
import requests
import websocket

from core.engines.comfy.standin import media
from core.engines.comfy.standin.script import Script
from tests.comfy import recorded
from tests.comfy.contract import Names
from tests.comfy.standin import Socket, running, trivial

PLACE = re.compile(r"127\.0\.0\.1:8188|localhost:8188")
LARGE = 105_906_201


def body_of(row):
    """Return the bytes that were sent, and their headers."""
    body = row["request_body"]
    if row["case"] == "body over 100 MiB":
        return (b" " * 65_536 for _ in range(LARGE // 65_536 + 1)), {}
    if row["case"] == "not UTF-8":
        return b"\xff\xfe{}", {}
    if isinstance(body, str):
        kind = "text/plain" if "text/plain" in row["case"] else "application/json"
        return body.encode(), {"Content-Type": kind}
    return json.dumps(body).encode(), {"Content-Type": "application/json"}


def test_82_requests_get_the_recorded_answers(tmp_path):
    theirs, ours = Names(), Names()
    wrong = []
    (tmp_path / "main.py").write_text("outside of input, where a real server has a file too")
    with running(tmp_path) as server, requests.Session() as session:
        for row in recorded.rejections():
            method, path = row["request"].split()
            body, headers = body_of(row)
            for name, value in row.get("request_headers", {}).items():
                port = str(server.server.port)
                headers[name] = PLACE.sub(lambda m: m[0].replace("8188", port), value)  # noqa: B023
            answer = session.request(
                method, server.url + path, data=body, headers=headers, timeout=60
            )
            expected = (row["status"], row["content_type"])
            found = (answer.status_code, answer.headers.get("Content-Type"))
            if found != expected:
                wrong.append((row["case"], found, expected))
                continue
            if "json" in row:
                given = (
                    json.loads(row["request_body"])
                    if isinstance(row["request_body"], str)
                    else row["request_body"]
                )
                theirs.posted(given, row["json"])
                ours.posted(given, answer.json())
                if ours.plain(answer.json()) != theirs.plain(row["json"]):
                    wrong.append((row["case"], answer.json(), row["json"]))
            elif answer.text != row.get("text", ""):
                wrong.append((row["case"], answer.text, row["text"]))
    assert wrong == []


def get(server, path, **more):
    return requests.request(more.pop("method", "GET"), server.url + path, timeout=20, **more)


@pytest.mark.parametrize(
    "name",
    [
        *("queue_empty", "prompt_idle", "models", "embeddings", "features", "users"),
        *("history_empty", "history_unknown_id", "object_info_unknown", "models_unknown_folder"),
        *("api_prefixed_queue",),
    ],
)
def test_a_fresh_server_answers_the_same(name, tmp_path):
    told = recorded.http(name)
    with running(tmp_path) as server:
        answer = get(server, told["request"].split()[1])
    assert answer.status_code == told["status"]
    assert answer.headers.get("Content-Type") == told["headers"].get("Content-Type")
    assert answer.text == told.get("text", answer.text)
    assert "json" not in told or answer.json() == told["json"]


def test_nodes_and_models_are_those_that_were_recorded(tmp_path):
    with running(tmp_path) as server:
        found = get(server, "/object_info").json()
        assert {name: found[name] for name in recorded.object_info()} == recorded.object_info()
        assert get(server, "/object_info/KSampler").json() == {
            "KSampler": recorded.object_info()["KSampler"]
        }
        others = ("configs", "custom_nodes", "animatediff_video_formats", "VHS_video_formats")
        for folder, files in recorded.http("models_by_folder").items():
            if folder not in others:  # Files that come with ComfyUI and its packs.
                assert get(server, f"/models/{folder}").json() == files, folder


def test_a_server_can_have_as_many_nodes_as_the_recorded_one_has_bytes(tmp_path):
    with running(tmp_path, Script(fillers=200)) as server:
        size = len(get(server, "/object_info").content)
    assert abs(size / recorded.object_info_summary()["bytes"] - 1) < 0.1


def test_memory_is_told_under_the_recorded_names(tmp_path):
    told = recorded.http("system_stats")["json"]
    with running(tmp_path) as server:
        found = get(server, "/system_stats").json()
    assert found["system"].keys() == told["system"].keys()
    assert found["system"]["comfyui_version"] == recorded.VERSION
    assert [device.keys() for device in found["devices"]] == [told["devices"][0].keys()]


def make_the_files_that_were_viewed(folder):
    picture = media.Picture(64, 64, 5, seed=1)
    still = media.png(next(iter(media.frames(picture))))
    output, inputs = folder / "output/rig", folder / "input"
    output.mkdir(parents=True)
    inputs.mkdir()
    (output / "other_00001_.png").write_bytes(still)
    (output / "vhs_00001.mp4").write_bytes(media.clip(picture, "mp4", 16, {}))
    (output / "webm_00001_.webm").write_bytes(media.clip(picture, "webm", 16, {}))
    (output / "webp_00001_.webp").write_bytes(media.clip(picture, "webp", 16, {}))
    (inputs / "example.png").write_bytes(still)
    (inputs / "rig_page.html").write_bytes(b"<b>x</b>")
    (inputs / "ré sumé 図.png").write_bytes(still)
    (inputs / "rig_empty.png").write_bytes(b"")


NOT_SIMULATED = ("preview of an animated webp", "VHS viewvideo (needs ffmpeg)", "VHS queryvideo")


def test_files_are_viewed_with_the_recorded_answers(tmp_path):
    """Compared: status, type, disposition, which headers there are; not sizes and dates."""
    make_the_files_that_were_viewed(tmp_path)
    with running(tmp_path) as server:
        etag = {}
        for row in recorded.http("view"):
            if row["case"] in NOT_SIMULATED:
                continue
            method, path = row["request"].split(" ", 1)
            headers = dict(row.get("request_headers") or {})
            if "If-None-Match" in headers:
                headers["If-None-Match"] = etag["Etag"]
            if "If-Modified-Since" in headers:
                headers["If-Modified-Since"] = etag["Last-Modified"]
            answer = get(server, path, method=method, headers=headers)
            if row["case"] == "png":
                etag = answer.headers
            told = row["headers"]
            assert answer.status_code == row["status"], row["case"]
            for name in ("Content-Type", "Content-Disposition", "Accept-Ranges"):
                assert answer.headers.get(name) == told.get(name), (row["case"], name)
            assert set(answer.headers) == set(told), row["case"]
            assert answer.content[:3].hex() == row["body_head_hex"][:6], row["case"]


def test_uploads_get_the_recorded_names(tmp_path):
    contents = {}
    with running(tmp_path) as server:
        for row in recorded.http("upload_image"):
            if row["case"] == "101 MiB body":
                continue
            size = row["bytes"]
            fill = contents.setdefault(
                (row["filename"], size, "third" in row["case"]), bytes([len(contents)])
            )
            field = "wrong" if row["case"] == "wrong field name" else "image"
            files = {field: (row["filename"], io.BytesIO(fill * size))}
            if row["filename"] is None:
                files = {"other": (None, b"x")}
            answer = get(server, "/upload/image", method="POST", data=row["fields"], files=files)
            assert (answer.status_code, answer.text) == (row["status"], row["body"]), row["case"]
        assert not (tmp_path / "evil.png").exists()


def test_sockets_are_refused_to_other_sites(tmp_path):
    with running(tmp_path) as server:
        for row in recorded.http("ws_origin_checks"):
            origin = {
                "no Origin header": None,
                "Origin equal to Host": server.url,
                "foreign Origin": "http://evil.example",
                "Origin localhost, Host 127.0.0.1": server.url.replace("127.0.0.1", "localhost"),
                "Origin null": "null",
                "Origin same host, other port": "http://127.0.0.1:1",
            }.get(row["case"])
            where = f"{server.url.replace('http', 'ws', 1)}{row['path']}?clientId=o"
            more = {"origin": origin} if origin else {"suppress_origin": True}
            try:
                socket = websocket.create_connection(where, timeout=10, **more)
            except websocket.WebSocketBadStatusException as refused:
                assert "403" in row["result"], row["case"]
                assert refused.status_code == 403
            else:
                assert row["result"] == "connected", row["case"]
                assert json.loads(socket.recv()) == json.loads(row["first"])
                socket.close()


def test_the_log_tells_what_happens_to_whoever_asks(tmp_path):
    with running(tmp_path) as server:
        socket = Socket(server.url, "reader")
        wanted = {"clientId": "reader", "enabled": True}
        assert get(server, "/internal/logs/subscribe", method="PATCH", json=wanted).ok
        server.submit(trivial())
        lines = []
        while not lines or not lines[-1].startswith("Prompt executed in"):
            message = socket.read()
            if message["type"] == "logs":
                assert set(message["data"]) == {"entries", "size"}
                lines += [entry["m"] for entry in message["data"]["entries"]]
        assert lines[0] == "got prompt\n"
        assert "got prompt\n" in get(server, "/internal/logs").json()
        socket.close()


def test_history_is_paged_and_forgets(tmp_path):
    with running(tmp_path, Script(history_most=4)) as server:
        socket = Socket(server.url, "me")
        names = [server.submit(trivial(color), "me") for color in range(7)]
        socket.until_end(names[-1])
        assert list(get(server, "/history").json()) == names[-5:]
        assert list(get(server, "/history?max_items=2").json()) == names[-2:]
        assert list(get(server, "/history?max_items=2&offset=0").json()) == names[2:4]
        assert get(server, "/history?max_items=0").json() == {}
        assert get(server, "/history?max_items=x").status_code == 500
        get(server, "/history", method="POST", json={"delete": [names[3]]})
        assert list(get(server, "/history").json()) == [names[2], *names[4:]]
        get(server, "/history", method="POST", json={"clear": True})
        assert get(server, "/history").json() == {}
        socket.close()
