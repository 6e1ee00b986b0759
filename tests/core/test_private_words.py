"""Nothing private gets through, whatever it is and however it is written."""

from __future__ import annotations

import json
import string
import time
from unicodedata import normalize
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.private_words import ADDRESS, FOLDER, HOME, PROMPT, SECRET, USER, Scrubber

NAMES = st.text(string.ascii_letters + "äöñ" + string.digits, min_size=4, max_size=12).filter(
    # Not a part of the words around it, nor of what stands in its place.
    lambda name: all(
        name.casefold() not in word
        for word in ("<home><user><host><secret><address><prompt>", "root", "admin", "localhost")
    )
)
SIGNS = string.ascii_letters + string.digits + "-_.~!$/+=\\\"' é"
SECRETS = (
    st.text(SIGNS, min_size=8, max_size=30)
    .map(str.strip)
    .filter(lambda word: len(word) >= 8 and any(sign.isalnum() for sign in word))
)
WRAPS = st.sampled_from(
    ["{}", "see {} now", "[{}]", '"{}"', "x={}&y=2", "({})", "a\n{}\nb", "\t{},", "https://h/{}/x"]
)
ESCAPES = st.sampled_from(
    [
        str,
        lambda word: json.dumps(word),
        lambda word: json.dumps(word, ensure_ascii=False),
        repr,
        ascii,
        lambda word: quote(word, safe=""),
    ]
)


@settings(max_examples=80, deadline=None)
@given(NAMES, NAMES, WRAPS, ESCAPES)
def test_neither_home_user_nor_host_is_left(
    user: str, host: str, wrap: str, escape: object
) -> None:
    for home in (f"/home/{user}", f"C:\\Users\\{user}", f"/data/people/{user}"):
        scrubber = Scrubber(homes=[home], users=[user], hosts=[f"{host}.example.org"])
        for word in (home, f"{home}/clips/a.mp4", user, user.upper(), host, f"{host}.example.org"):
            cleaned = scrubber.clean(wrap.format(escape(word)))  # type: ignore[operator]
            assert user.casefold() not in cleaned.casefold()
            assert host.casefold() not in cleaned.casefold() or host.casefold() in "https://h/"


@settings(max_examples=80, deadline=None)
@given(SECRETS, WRAPS, ESCAPES)
def test_no_known_secret_is_left(secret: str, wrap: str, escape: object) -> None:
    shown = escape(secret)  # type: ignore[operator]
    cleaned = Scrubber(secrets=[secret]).clean(wrap.format(shown))
    assert secret not in cleaned
    assert shown.strip("\"'") not in cleaned


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["hf_", "sk-", "ghp_", "r8_", "glpat-", "AKIA", "eyJhbGciOi.", "xoxb-"]),
    st.text(string.ascii_letters + string.digits, min_size=16, max_size=40),
    WRAPS,
)
def test_no_token_that_nobody_knew_of_is_left(kind: str, rest: str, wrap: str) -> None:
    assert rest not in Scrubber().clean(wrap.format(kind + rest))
    assert rest not in Scrubber().clean(f"Authorization: Bearer {rest}")
    assert rest not in Scrubber().clean(json.dumps({"api_key": rest, "HF_TOKEN": rest}))
    assert rest not in str(Scrubber().clean_json({"password": rest, "deep": [{"token": rest}]}))


@settings(max_examples=80, deadline=None)
@given(st.ip_addresses().filter(lambda ip: not (ip.is_loopback or ip.is_unspecified)), WRAPS)
def test_no_address_is_left(place: object, wrap: str) -> None:
    assert str(place) not in Scrubber().clean(wrap.format(place))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text(string.ascii_letters + "éß", min_size=2, max_size=9), min_size=3, max_size=9),
    st.sampled_from([" ", ", ", "\n", "  "]),
    ESCAPES,
)
def test_no_stretch_of_a_prompt_is_left(words: list[str], gap: str, escape: object) -> None:
    prompt = gap.join(words)
    scrubber = Scrubber(prompts=[prompt])
    log = f"part was truncated: {escape(prompt)} ({escape(prompt.lower())})"  # type: ignore[operator]
    cleaned = scrubber.clean(log)
    assert cleaned.startswith("part was truncated: ")
    left = cleaned.removeprefix("part was truncated: ").replace(PROMPT, "")
    assert not any(sign.isalnum() for sign in left)
    assert scrubber.clean_json({"prompt": prompt, "title": prompt}) == {
        "prompt": PROMPT,
        "title": PROMPT,
    }
    assert Scrubber(prompts=[prompt], show_prompts=True).clean(prompt) == prompt


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("http://anna:pw@10.0.0.7:8188/queue?token=1", f"http://{ADDRESS}:8188"),
        ("http://127.0.0.1:8188/object_info", "http://127.0.0.1:8188"),
        ("render.example.com:8188 is away", f"{ADDRESS}:8188 is away"),
        ("nas.local is away", f"{ADDRESS} is away"),
        ("write to anna.b@example.com", "write to <mail>"),
        ("fe80::1ff:fe23:4567:890a", ADDRESS),
        ("at:fe80::1: refused", f"at:{ADDRESS}: refused"),
        ("aa:bb:cc:dd:ee:ff", "<id>"),
        ("GPU-1d0a9c2e-3b44-4f2c-9d1e-0123456789ab: hot", "<id>: hot"),
        ("serial number: 1654321098765", "serial number: <id>"),
        ("from \\\\nas7\\films\\a.mp4", "from \\\\<host>\\a.mp4"),
        ("prompt='a red ball', steps=4", f"prompt={PROMPT}, steps=4"),
        ("/home/zoe/clips", f"/home/{USER}/clips"),
        ("/home/zoe maria/clips", f"/home/{USER}/clips"),
        ("C:\\Users\\Zoe Maria\\clips", f"C:\\Users\\{USER}\\clips"),
        ("/run/media/zoe/STICK/a.mp4", f"/run/media/{USER}/STICK/a.mp4"),
        ("--api-token geheim --port 8188", f"--api-token {SECRET} --port 8188"),
        ("proxy --password 'ge heim' x", f"proxy --password {SECRET} x"),
        ("pwd=geheim", f"pwd={SECRET}"),
        ("Authorization: token abcdef", f"Authorization: {SECRET}"),
        ("Cookie: a=1; session=2", f"Cookie: {SECRET}"),
        ("/a.png?x=1&sig=abc%2Fdef", f"/a.png?x=1&sig={SECRET}"),
        ("ssh zoe@nas7", f"ssh {ADDRESS}"),
        ("user=zoe", f"user={USER}"),
        (
            "HTTPConnectionPool(host='render-7', port=8188)",
            "HTTPConnectionPool(host='<host>', port=8188)",
        ),
        ("Failed to resolve 'render' (x)", "Failed to resolve '<host>' (x)"),
        ("Connection to render-7 timed out", "Connection to <host> timed out"),
        ("hooks.chat.example/services/T0/B0/XX", ADDRESS),
        ("from //nas7/films/a.mp4", "from //<host>/a.mp4"),
        ("ip_10.0.0.5_up", f"ip_{ADDRESS}_up"),
        ("C:\\\\Users\\\\zoe\\\\clips", f"C:\\\\Users\\\\{USER}\\\\clips"),
    ],
)
def test_what_looks_private_goes(text: str, left: str) -> None:
    assert Scrubber().clean(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22 04:05:42,123 INFO MainProcess app.gui: torch 2.13.0+cpu",
        "job 7f3c2a10-5b7d-4c3e-9a55-0d1e2f3a4b5c failed after 12.5 s",
        '  File "core/engines/local/client.py", line 210 in _read',
        "driver 535.129.03, CUDA 12.8, 24576 MB",
        "token: None",
        "HTTPConnectionPool(host='127.0.0.1', port=8188)",
        "the connection to the server broke, and it was not possible to resolve it",
        "it answers at 127.0.0.1:8188 and ::1",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert (
        Scrubber(homes=["/home/anna"], users=["anna", "root"], hosts=["box-7"]).clean(text) == text
    )


@pytest.mark.parametrize(
    "text",
    ["saved 一只红色的猫坐在.mp4", "cut: ['的猫坐在窗台上看雨']", "一只红-色的猫", "แมวสีแดงนั่งที่หน้า"],
)
def test_prompts_of_scripts_without_blanks_go_in_parts_too(text: str) -> None:
    prompts = ["一只红色的猫坐在窗台上看雨", "แมวสีแดงนั่งที่หน้าต่างดูฝน"]
    cleaned = Scrubber(prompts=prompts).clean(text).replace(PROMPT, "")
    assert not any(ord(sign) > 0xE00 for sign in cleaned)


@pytest.mark.parametrize(
    "text", ["a-lonely-astronaut-rid.mp4", "astronaut ri…", "marzipan_elef-02.mp4"]
)
def test_a_name_that_ends_in_the_midst_of_a_prompts_word_goes(text: str) -> None:
    cleaned = Scrubber(prompts=["A lonely astronaut rides a horse", "Marzipan elephants"]).clean(
        text.replace("elef", "elep")
    )
    for cut in ("astronaut", "ri", "elep", "marzipan"):
        assert cut not in cleaned.removesuffix(".mp4")


def test_names_are_known_however_their_letters_are_put_together() -> None:
    scrubber = Scrubber(homes=["/data/Jörg Müller"], users=["Jörg Müller"])
    for kind in ("NFC", "NFD"):
        for text in ("/data/Jörg Müller/x", "/data/jörg\\ müller/x", quote("/data/Jörg Müller/x")):
            assert scrubber.clean(normalize(kind, text)) == "~/x"
        assert scrubber.clean(quote(normalize(kind, "/data/Jörg Müller/x"))) == "~/x"


def test_folders_that_were_chosen_go_and_what_lies_in_them_stays() -> None:
    scrubber = Scrubber(homes=["/home/zoe"], folders=["/mnt/Client X/clips/", "D:\\Client X", "/"])
    assert scrubber.clean("at /mnt/Client X/clips/a.mp4") == f"at {FOLDER}/a.mp4"
    assert (
        scrubber.clean("at D:\\\\Client X\\\\a, D:/client x/a") == f"at {FOLDER}\\\\a, {FOLDER}/a"
    )
    assert scrubber.clean("/usr/lib") == "/usr/lib"


def test_this_machine_is_known(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/anna-home")
    monkeypatch.setenv("USERPROFILE", "/srv/anna-home")
    monkeypatch.setenv("USER", "annab")
    found = Scrubber.of_this_machine(secrets=["s3cret/é"]).clean(
        "/srv/anna-home/x by AnnaB with s3cret/%C3%A9, s3cret/é"
    )
    assert found == f"{HOME}/x by {USER} with {SECRET}, {SECRET}"


@pytest.mark.parametrize("text", ["abc1_", ":1", "a.", "x@", "aa-", "'\\\"", "token=", "a b "])
def test_one_long_line_takes_no_time(text: str) -> None:
    """Four times the length takes about four times as long, not sixteen, on any machine."""

    def seconds(length: int) -> float:
        line = text * (length // len(text))
        scrubber = Scrubber(prompts=["a b c d"], secrets=["abcd"])
        began = time.process_time()
        scrubber.clean(line)
        return time.process_time() - began

    short, long = (min(seconds(length) for _ in range(3)) for length in (12_500, 50_000))
    assert long < 8 * short
