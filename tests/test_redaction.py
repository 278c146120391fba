"""Redaction: a planted key appears nowhere; ids, hashes and paths are left alone."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from cmbagent_nb import redaction as redact
from cmbagent_nb.redaction import Redactor, is_secret
from tests.recorded_run import recorded_run

KEY = 'pl4nted/"key"-Zäh9-0123456789'


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnopqrstuvwx0123",
        "sk-ant-api03-abcdefghijklmnopqrst-0",
        "AKIAABCDEFGHIJKLMNOP",
        "ghp_" + "a1" * 18,
        "AIza" + "Sy0-_" * 7,
        "xoxb-1234567890-abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOY\n-----END PGP PRIVATE KEY BLOCK-----",
    ],
)
def test_keys_of_vendors_are_known_by_their_shape(secret: str) -> None:
    """A key that is in no environment variable is masked too."""
    scrubbed = Redactor({}).scrub(f"before {secret} after")
    assert secret not in scrubbed
    assert scrubbed.startswith("before [redacted:") and scrubbed.endswith("] after")


@pytest.mark.parametrize(
    "text",
    [
        "018f3c1e-7b1a-7e22-9f57-0242ac120002",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "/home/ada/.local/share/task-abcdefghijklmnopqrstuv/plots/tt.png",
        "sk-learn-contrib-is-a-name-without-digits",
        "https://example.org/a:b/c@2x.png",
        "the token count and the key of the plot",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Ids, hashes, paths and words are not masked."""
    assert Redactor({"HOME": "/home/ada", "SOME_KEY": "short"}).scrub(text) == text


@pytest.mark.parametrize(
    "code",
    [
        'get(f"https://api.org/q?api_key={API_KEY}&limit=5")',
        'connect(f"postgresql://{user}:{password}@{host}/sky")',
        'connect(f"mysql://{u}:{quote_plus(p)}@{h}")',
        'connect("postgres://{}:{}@{}/sky".format(user, password, host))',
        'connect("https://bob:%s@host/" % password)',
        'connect(f"host={host} user={user} password={password} dbname=sky")',
        'run("curl https://api.org/q?token=${TOKEN}")',
        "psycopg2.connect(host=host, user=user, password=password)",
        'connect(host=h, port=5432, password=os.environ["DB_PASSWORD"], dbname=d)',
        "connect(password=getpass(), host=h)",
        'get("https://archive.org/q?sort_key=redshift&primary_key=objid&maxkey=10000")',
    ],
)
def test_code_that_names_a_secret_without_having_it_stays(code: str) -> None:
    """Code is masked before it is shown and run: what is masked in vain is other code."""
    assert Redactor({}).scrub(code) == code


@pytest.mark.parametrize("query", ["?api_key=abcd", "?x=1&key=abc12345", "&access_token={ab}cd1", "?sig=a%2Fb"])
def test_keys_in_queries_are_masked(query: str) -> None:
    name = query.rpartition("=")[0]
    assert Redactor({}).scrub(f"https://host/{query}&y=2") == f"https://host/{name}=[redacted:SECRET]&y=2"


def test_a_password_of_a_connection_string_is_masked() -> None:
    for text in ("host=h user=u password=tiger dbname=d", "Login failed (host=h;password=tiger;port=1)"):
        assert "tiger" not in Redactor({}).scrub(text)


def test_every_form_of_a_value_is_masked() -> None:
    """As it is, in JSON, and in a URL."""
    redactor = Redactor({"MY_TOKEN": KEY})
    for form in (KEY, json.dumps(KEY), json.dumps(KEY, ensure_ascii=False), json.dumps({"a": [KEY]})):
        scrubbed = redactor.scrub(f"<{form}>")
        assert "0123456789" not in scrubbed and "[redacted:MY_TOKEN]" in scrubbed


@pytest.mark.parametrize("break_", ["\n", "\\n", "\\\\n", '"\n    "', '\\n"\n"', "\n  "])
def test_a_private_key_that_was_cut_is_masked(break_: str) -> None:
    """Its end is missing, or its lines are strings of code."""
    lines = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"]
    scrubbed = Redactor({}).scrub(break_.join(["key = -----BEGIN PRIVATE KEY-----", *lines]) + "\nand then")
    assert scrubbed == "key = [redacted:PRIVATE_KEY]\nand then"


@pytest.mark.parametrize(
    "after", ["\\" * 50_000, "\n " * 50_000, "A" * 100_000 + "!", "-----BEGIN PRIVATE KEY-----\n" * 500]
)
def test_what_only_begins_like_a_private_key_takes_no_time(after: str) -> None:
    begun = time.monotonic()
    Redactor({}).scrub("-----BEGIN PRIVATE KEY-----" + after)
    Redactor({}).scrub("?key=" * 40_000)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("user", ["", "me:", "ada:", "user:"])
def test_a_key_in_basic_credentials_is_masked(user: str) -> None:
    """Three bytes make four characters, so that what is before the key changes all of them."""
    key = "wJalrXUtn/EMI+K7MDENG0"
    for coded in (base64.b64encode, base64.urlsafe_b64encode):
        written = coded(f"{user}{key}:".encode()).decode()
        assert "[redacted:MY_KEY]" in Redactor({"MY_KEY": key}).scrub(f"sent {written}")


def test_a_key_as_other_encoders_write_it_is_masked() -> None:
    """JSON of Go and PHP, and a URL that is a parameter of another."""
    key = "wJalrX&Utn/EMI<K7MDENG0"
    for written in (
        r"wJalrX\u0026Utn/EMI\u003cK7MDENG0",
        r"wJalrX&Utn\/EMI<K7MDENG0",
        "wJalrX%2526Utn%252FEMI%253CK7MDENG0",
    ):
        assert Redactor({"MY_KEY": key}).scrub(f"a {written} b") == "a [redacted:MY_KEY] b"


def test_a_password_with_an_at_sign_is_masked_whole() -> None:
    assert Redactor({}).scrub("postgresql://bob:pa@ss1@host/db") == "postgresql://bob:[redacted:PASSWORD]@host/db"


def test_a_password_in_a_url_is_masked() -> None:
    """The rest of the URL stays readable."""
    url = "postgresql://ada:v3ry-s3cret@db.example.org:5432/x"
    assert Redactor({}).scrub(url) == "postgresql://ada:[redacted:PASSWORD]@db.example.org:5432/x"


def test_which_variables_are_secret() -> None:
    """By name, and never when the value is a path."""
    long = "x" * 20
    assert all(is_secret(name, long) for name in ("OPENAI_API_KEY", "HF_TOKEN", "DB_PASSWORD", "aws_secret", "X_AUTH"))
    assert not any(is_secret(name, long) for name in ("HOME", "PWD", "KEYBOARD_LAYOUT", "SSH_AUTH_SOCK", "LANG"))
    assert not is_secret("GOOGLE_CREDENTIALS", "/home/ada/.config/gcloud/key.json")


def test_a_key_that_is_set_later_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key set in a later cell is masked, and so is one that has been removed again."""
    environ: dict[str, str] = {}
    redactor = Redactor(environ)
    environ["LATE_KEY"] = "0123456789-late-key"
    redactor.refresh()
    del environ["LATE_KEY"]
    assert redactor.scrub("0123456789-late-key") == "[redacted:LATE_KEY]"
    monkeypatch.setattr(redact, "FRESH", -1.0)
    environ["LATER_KEY"] = "0123456789-later-key"
    assert redactor.scrub("0123456789-later-key") == "[redacted:LATER_KEY]"


def test_a_planted_key_appears_nowhere_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the database's bytes nor in the journal, wherever it was said."""
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    with recorded_run(tmp_path) as run:
        with run.recorder.located_at("step_1"), run.recorder.span("tool_call", inputs={"argument": KEY}) as span:
            span.outputs = {"result": f"the environment has {KEY}"}
            span.fail(f"bad key {KEY}")
            run.recorder.message(sender="a", recipient="b", content=KEY, tool_calls=[{"arguments": json.dumps([KEY])}])
        run.writer.journal(run.journal, "note", {"text": KEY})
        assert "[redacted:PLANTED_API_KEY]" in run.events()[0]["error"]
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"0123456789" not in file.read_bytes(), file
