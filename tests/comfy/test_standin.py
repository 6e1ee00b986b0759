"""The stand-in runs graphs as a server does, seen from its own clients."""

from __future__ import annotations

import threading

import requests

from tests.comfy.standin import Socket, process, running, trivial


def test_a_trivial_graph_runs_from_end_to_end(tmp_path):
    with running(tmp_path) as server:
        socket = Socket(server.url, "me")
        answer = requests.post(
            f"{server.url}/prompt", json={"prompt": trivial(), "client_id": "me"}, timeout=10
        )
        prompt = answer.json()["prompt_id"]
        kinds = [message["type"] for message in socket.until_end(prompt)]
        assert kinds == [
            *("status", "status", "status", "execution_start", "execution_cached"),
            *("progress_state", "executing", "progress_state"),
            *("progress_state", "executing", "executed", "progress_state"),
            *("execution_success", "status", "executing"),
        ]
        history = requests.get(f"{server.url}/history/{prompt}", timeout=10).json()[prompt]
        assert history["status"]["status_str"] == "success"
        (told,) = history["outputs"]["2"]["images"]
        assert told == {"filename": "tiny_00001_.png", "subfolder": "", "type": "output"}
        picture = requests.get(f"{server.url}/view", params=told, timeout=10)
        assert picture.content[:8] == b"\x89PNG\r\n\x1a\n"
        socket.close()


def test_the_process_serves_and_ends_with_its_input(tmp_path):
    with process(tmp_path) as server:
        assert requests.get(f"{server.url}/queue", timeout=10).json() == {
            "queue_running": [],
            "queue_pending": [],
        }


def test_messages_can_come_before_the_reply_to_the_post(tmp_path):
    with running(tmp_path) as server:
        server.faults.arm("late_reply", 0.3, path="/prompt", times=1)
        socket = Socket(server.url, "me")
        answers = []
        poster = threading.Thread(
            target=lambda: answers.append(
                requests.post(
                    f"{server.url}/prompt",
                    json={"prompt": trivial(), "client_id": "me", "prompt_id": "early"},
                    timeout=10,
                )
            )
        )
        poster.start()
        socket.until_end("early")
        assert answers == []
        poster.join()
        assert answers[0].json()["prompt_id"] == "early"
        socket.close()
