"""Reports that a person gives away tell nothing of the person."""

from __future__ import annotations

import ipaddress
import json
import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.private import Person, scrubbed

ADA = Person("ada", "loom.example.org", "/home/ada")

names = st.from_regex(r"[a-z][a-z0-9]{1,10}", fullmatch=True)
# Words of the house, which a name may be too, would prove nothing.
letters = string.ascii_letters + string.digits + " .,:;/\\-_=\"'()\n→é"
words = st.lists(st.text(letters, max_size=40))
public = st.ip_addresses().filter(lambda one: not (one.is_loopback or one.is_unspecified))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/Videos/Framedeck is full", "~/Videos/Framedeck is full"),
        ("/home/ada", "~"),
        ("/home/adamant/x of ada's", "/home/<user>/x of <user>'s"),
        (r"C:\Users\Ada Lovelace\AppData", r"C:\Users\<user> Lovelace\AppData"),
        ("at loom and LOOM.example.org", "at <host> and <host>"),
        ("http://127.0.0.1:8188/queue?x=1 answers", "http://127.0.0.1:8188 answers"),
        ("http://[::1]:8188 answers", "http://[::1]:8188 answers"),
        ("http://localhost:11434", "http://localhost:11434"),
        ("https://bob:hunter2@studio.example.org:8443/x", "https://<address>:8443"),
        ("10.0.0.7:8188 and 127.0.0.1:8188", "<address>:8188 and 127.0.0.1:8188"),
        ("fe80::1%eth0 is away; ::1 is here", "<address> is away; ::1 is here"),
        ("2001:db8::8:1", "<address>"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: <secret>"),
        ('{"api_key": "sk-abcdefgh12345678"}', '{"api_key": "<secret>"}'),
        ("HF_TOKEN=hf_abcdefghijk", "HF_TOKEN=<secret>"),
        ("it said hf_abcdefghijk today", "it said <secret> today"),
        ("write to ada@example.org", "write to <mail>"),
        ("GPU-8f3c2a1b-0a1b-4c2d-9e8f-001122334455", "<id>"),
        ("0a:1b:2c:3d:4e:5f", "<id>"),
        ("Serial Number: 1324021077654", "Serial Number: <id>"),
        (r"\\nas\films\x", r"\\<host>\x"),
        # What a report is for stays.
        ("torch 2.13.0+cu130, driver 580.95.05, CUDA 13.0", None),
        ("at 12:30:45 on 2026-11-22, 24.0 GB of 24.0 GB", None),
        ("std::bad_alloc in sm_86; Held by ComfyUI :8188 6.0 GB", None),
    ],
)
def test_what_is_taken_out_and_what_stays(text: str, expected: str | None) -> None:
    assert scrubbed(text, ADA) == (text if expected is None else expected)


@given(names, words)
def test_no_user_name_stands_as_a_word(user: str, around: list[str]) -> None:
    assume(user not in ("user", "host", "address", "secret", "id", "mail", "root", "admin", "home"))
    assume(user not in ("users", "framedeck", "administrator", "localhost"))
    text = f"/home/{user}/x ".join(around) + f" {user} ({user}) -{user}- C:\\Users\\{user}\\y"
    left = scrubbed(text, Person(user, "", f"/home/{user}"))
    assert not re.search(rf"(?<![^\W_]){user}(?![^\W_])", left, re.IGNORECASE)


@given(names, words)
def test_no_host_name_stands_as_a_word(host: str, around: list[str]) -> None:
    assume(host not in ("user", "host", "address", "secret", "id", "mail", "root", "admin", "home"))
    assume(host not in ("users", "framedeck", "administrator", "localhost"))
    text = f" {host}.lan ".join(around) + f" http://{host}.lan:8188/ {host.upper()}"
    left = scrubbed(text, Person("", f"{host}.lan", ""))
    assert not re.search(rf"(?<![^\W_]){host}(?![^\W_])", left, re.IGNORECASE)


@given(public, st.sampled_from(["at {}", "({})", "{}", "to {}, then", "<{}>", "http://[{}]:80/x"]))
def test_no_address_beyond_this_machine(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, frame: str
) -> None:
    if address.version == 4:
        frame = frame.replace("[{}]", "{}")
    assert str(address) not in scrubbed(frame.format(address), ADA)


@given(st.text(string.ascii_letters + string.digits + "-_.~", min_size=8, max_size=40))
def test_no_password_of_an_address(password: str) -> None:
    left = scrubbed(f"http://x:{password}@10.1.2.3:8188/api", ADA)
    assert password not in left
    assert left == "http://<address>:8188"


@given(st.text(string.ascii_letters + string.digits + "+/=", min_size=4, max_size=60), names)
def test_no_secret_that_was_named(secret: str, other: str) -> None:
    person = Person(secrets=(secret,))
    assert secret not in scrubbed(f"{other} {secret}", person) or secret in other


@given(words)
def test_twice_is_once(around: list[str]) -> None:
    text = "/home/ada/ 10.0.0.7 loom ada@x.org token=abcdefgh ".join(around)
    once = scrubbed(text, ADA)
    assert scrubbed(once, ADA) == once


@given(st.text())
def test_any_text_at_all(text: str) -> None:
    scrubbed(text, ADA)
    json.loads(json.dumps(scrubbed(text, ADA)))


def test_a_folder_of_windows_in_every_spelling() -> None:
    person = Person("ada", "", r"C:\Users\ada")
    for text in (r"C:\Users\ada\x", "C:\\\\Users\\\\ada\\\\x", "C:/Users/ada/x"):
        assert "ada" not in scrubbed(text, person)


def test_the_person_here_is_found() -> None:
    person = Person.here(["nas"], ["hunter2"])
    assert person.home
    assert "hunter2" not in repr(person)
    assert scrubbed("hunter2 at nas:8188", person) == "<secret> at <host>:8188"
