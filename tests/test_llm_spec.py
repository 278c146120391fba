"""Names of models, what is missing to call them, and which are there to be taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cmbagent_nb.errors import MissingExtra, MissingKey, UnknownModel
from cmbagent_nb.llm import providers
from cmbagent_nb.llm.prices import cost, is_priced, tokens_of
from cmbagent_nb.llm.providers import available, check, ollama_url, provider_config
from cmbagent_nb.llm.spec import PROVIDERS, ModelSpec
from cmbagent_nb.settings import Settings
from tests.openai_server import OpenAIServer
from tests.recorded_run import in_loop


@pytest.mark.parametrize(
    ("text", "provider", "name"),
    [
        ("openai:gpt-5", "openai", "gpt-5"),
        ("OpenAI: gpt-5 ", "openai", "gpt-5"),
        ("google:gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("ollama:qwen3:8b", "ollama", "qwen3:8b"),
        ("gpt-4o", "openai", "gpt-4o"),
        ("gemini-2.5-flash", "gemini", "gemini-2.5-flash"),
        ("gpt-4o:mine", "openai", "gpt-4o:mine"),
        ("playbook:x", "playbook", "x"),
        ("AUTO", "auto", ""),
    ],
)
def test_names_as_users_write_them(text: str, provider: str, name: str) -> None:
    """With a provider, or known by their beginning."""
    assert ModelSpec.parse(text) == ModelSpec(provider, name)


@pytest.mark.parametrize("text", ["", "nonsense", "opnai:gpt-5", "openai:", "playbook:"])
def test_a_name_that_says_nothing_is_refused_in_one_line(text: str) -> None:
    """With what to write instead."""
    with pytest.raises(UnknownModel, match=r"Write .*:") as raised:
        ModelSpec.parse(text)
    assert raised.value.exit_status == 2


def test_a_missing_key_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a server of one's own needs none."""
    monkeypatch.setattr(providers, "installed", lambda package: True)
    with pytest.raises(MissingKey, match="OPENAI_API_KEY"):
        check(ModelSpec("openai", "gpt-5"), Settings(), {})
    check(ModelSpec("openai", "gpt-5"), Settings(base_url="http://127.0.0.1:1/v1"), {})
    check(ModelSpec("gemini", "x"), Settings(), {"GOOGLE_API_KEY": "k"})
    check(ModelSpec("ollama", "x"), Settings(), {})


def test_a_missing_package_is_told_by_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a key is asked for."""
    monkeypatch.setattr(providers, "installed", lambda package: False)
    with pytest.raises(MissingExtra, match=r'pip install "cmbagent-nb\[anthropic\]"'):
        check(ModelSpec("anthropic", "claude-sonnet-5-5"), Settings(), {})


def test_every_provider_makes_a_configuration_that_does_not_retry_by_itself() -> None:
    """With our client, so that each try is seen; nothing is called. Those whose package is here are looked at."""
    environ = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": "k"}

    async def work() -> None:
        for name, provider in PROVIDERS.items():
            if not providers.installed(provider.package):
                continue
            config = provider_config(ModelSpec(name, "m"), settings=Settings(), environ=environ)
            assert config.model == "m"
            assert getattr(config, "max_retries", 0) == 0
            config.create()

    in_loop(work())


def test_auto_takes_a_server_of_ones_own_then_keys_then_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order, each with its reason; nothing when there is nothing."""
    monkeypatch.setattr(providers, "installed", lambda package: True)
    with OpenAIServer(lambda request: "x", models=["mine", "other"]) as server:
        host = server.url.removesuffix("/v1")
        environ = {"ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": "k", "OLLAMA_HOST": host}
        found = available(environ, Settings(base_url=server.url))
        assert [str(choice.spec) for choice in found[:3]] == [
            "openai:mine",
            f"anthropic:{PROVIDERS['anthropic'].default}",
            f"gemini:{PROVIDERS['gemini'].default}",
        ]
        assert found[1].reason == "ANTHROPIC_API_KEY is set"
        assert server.count == 0
    assert available({"OLLAMA_HOST": "127.0.0.1:9"}, Settings()) == []


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://localhost:11434"),
        ("0.0.0.0:5000", "http://localhost:5000"),
        ("https://gpu.example.org:443/", "https://gpu.example.org:443"),
    ],
)
def test_the_host_of_ollama(host: str, url: str) -> None:
    """In the forms that Ollama itself takes."""
    assert ollama_url({"OLLAMA_HOST": host}) == url


def test_prices_are_known_offline_and_unknown_is_not_zero() -> None:
    """By the installed table; cached tokens are cheaper; what costs nothing is zero."""
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "cached_tokens": 0}
    assert cost("openai", "gpt-5", usage) == pytest.approx(1.25)
    assert cost("openai", "gpt-5", {**usage, "cached_tokens": 1_000_000}) == pytest.approx(0.125)
    assert cost("gemini", "gemini-2.5-flash", usage) is not None
    assert cost("openai", "my-own-model", usage) is None
    assert cost("nowhere", "gpt-5", usage) is None
    assert cost("ollama", "qwen3:8b", usage) == 0.0
    assert is_priced("openai", "gpt-5") and not is_priced("openai", "my-own-model")


def test_the_defaults_of_auto_have_known_prices() -> None:
    """So that a budget can be kept for what a user gets without asking."""
    assert all(is_priced(item.name, item.default) for item in PROVIDERS.values() if item.default)


def test_anthropics_cached_tokens_are_part_of_the_prompt() -> None:
    """It counts them apart; all providers' prompts mean the same here."""

    class Usage:
        prompt_tokens = 10
        completion_tokens = 5
        cache_read_input_tokens = 70
        cache_creation_input_tokens = 20

    counts = tokens_of(Usage(), "anthropic")
    assert (counts["prompt_tokens"], counts["cached_tokens"], counts["total_tokens"]) == (100, 70, 105)


def test_looking_at_models_and_prices_needs_no_network_and_no_heavy_import(tmp_path: Path) -> None:
    """No socket is opened for a price, and neither AG2 nor a provider's package is imported to check a name."""
    code = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("the network was used")
socket.socket.connect = socket.create_connection = refuse
from cmbagent_nb.llm.spec import ModelSpec
from cmbagent_nb.llm.providers import check
from cmbagent_nb.llm.playbook import playbooks, find_for_task
from cmbagent_nb.settings import Settings
check(ModelSpec.parse("openai:gpt-5"), Settings(), {"OPENAI_API_KEY": "k"})
for item in playbooks():
    check(ModelSpec.parse(f"playbook:{item.name}"), Settings(), {})
    assert find_for_task(item.task) == item.name
heavy = {"ag2", "openai", "httpx2", "httpx", "genai_prices", "sqlmodel", "sqlalchemy", "pandas"} & set(sys.modules)
assert not heavy, heavy
from cmbagent_nb.llm.prices import cost
assert cost("openai", "gpt-5", {"prompt_tokens": 10}) > 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
