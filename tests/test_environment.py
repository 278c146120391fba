"""Which variables of the kernel the code of steps and skills gets, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cmbagent_nb.execution.environment import allowed, child_environment, withheld
from cmbagent_nb.settings import load_settings
from cmbagent_nb.workspace import Workspace
from tests.openai_server import OpenAIServer
from tests.team import code

DATA = (
    "CRDS_PATH CRDS_SERVER_URL PYSYN_CDBS HEALPIX HEALPIX_DATA COBAYA_PACKAGES_PATH CAMBDIR CLASSDIR CLIK_PATH "
    "CLIK_DATA PLANCK_DATA ASTROPY_CACHE_DIR OMP_NUM_THREADS HTTP_PROXY https_proxy NO_PROXY SSL_CERT_FILE "
    "REQUESTS_CA_BUNDLE HDF5_USE_FILE_LOCKING HDF5_PLUGIN_PATH CONDA_PREFIX LD_LIBRARY_PATH DYLD_LIBRARY_PATH "
    "MKL_NUM_THREADS WEBBPSF_PATH SCRATCH CALDB jref XDG_CACHE_HOME PROJ_LIB NUMBA_CACHE_DIR"
)
SECRETS = (
    "OPENAI_API_KEY CRDS_API_TOKEN MAST_API_TOKEN CONDA_TOKEN DB_PASSWORD MYSQL_PWD ASTROPY_SECRET GITHUB_AUTH "
    "AWS_SECRET_ACCESS_KEY HDF5_PASS COBAYA_CREDENTIALS SESSION_COOKIE"
)


@pytest.mark.parametrize("name", DATA.split())
def test_variables_of_the_field_are_passed_on(name: str) -> None:
    assert allowed(name, "/data")


@pytest.mark.parametrize("name", SECRETS.split())
def test_a_secret_is_passed_on_by_its_exact_name_only(name: str) -> None:
    assert not allowed(name, "v")
    assert not allowed(name, "v", "*")
    assert not allowed(name, "v", f"{name[:4]}*,{name[:-1]}?")
    assert allowed(name, "v", f"OTHER, {name}")


@pytest.mark.parametrize(
    "value", ["http://ada:pw@proxy:80", "postgresql://u:p%40ss@host/db", "socks5://u:x@127.0.0.1", "a b https://x:y@z"]
)
def test_a_url_with_a_password_is_a_secret(value: str) -> None:
    assert not allowed("HTTP_PROXY", value)
    assert not allowed("MY_URL", value, "MY_*")
    assert allowed("HTTP_PROXY", value, "HTTP_PROXY")
    assert allowed("HTTP_PROXY", value.rpartition("@")[2])


def test_patterns_come_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('pass_env = ["MYDATA_*", "EXACT", "*_ROOT"]\n')
    pass_env = load_settings(tmp_path, {}).pass_env
    environ = {"MYDATA_DIR": "1", "EXACT": "2", "A_ROOT": "3", "EXACTLY": "4", "MYDATA": "5", "A_KEY_ROOT": "6"}
    assert child_environment(environ=environ, pass_env=pass_env) == {"MYDATA_DIR": "1", "EXACT": "2", "A_ROOT": "3"}
    assert load_settings(tmp_path, {"CMBAGENT_PASS_ENV": "X,Y_*"}).pass_env == "X,Y_*"


@pytest.mark.parametrize(
    ("text", "told", "found"),
    [
        ("os.environ['LIKELIHOOD_DIR']", "", True),
        ('os.getenv("LIKELIHOOD_DIR")', "", True),
        ("os.path.expandvars('$LIKELIHOOD_DIR/x')", "", True),
        ("os.path.expandvars('${LIKELIHOOD_DIR}/x')", "", True),
        ("import lib; lib.load()", "RuntimeError: LIKELIHOOD_DIR is not set", True),
        ("import lib; lib.load()", "KeyError: 'LIKELIHOOD_DIR'", True),
        ("LIKELIHOOD_DIR = 'data'", "", False),
        ("x = 'LIKELIHOOD_DIRS'", "", False),
        ("import lib", "no file in /a/LIKELIHOOD_DIR/b", False),
    ],
)
def test_what_code_asked_for_and_did_not_get_is_named(text: str, told: str, found: bool) -> None:
    environ = {"LIKELIHOOD_DIR": "/l", "PWD": "/", "HOME": "/h", "A": "1"}
    assert withheld(text, told, environ=environ) == (["LIKELIHOOD_DIR"] if found else [])
    assert withheld(text, told, environ=environ, pass_env="LIKELIHOOD_*") == []
    assert withheld(text, told, environ={}) == []


@pytest.fixture
def run_of(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> object:
    def start(text: str) -> object:
        with OpenAIServer(lambda request: code(text)) as server:
            monkeypatch.setenv("CMBAGENT_BASE_URL", server.url)
            return workspace.one_shot("Read.", model="openai:m", max_attempts=1).wait(120)

    return start


@pytest.mark.parametrize(
    "text",
    [
        "import os; os.environ['LIKELIHOOD_DIR']",
        "import os; open(os.environ.get('LIKELIHOOD_DIR') + '/x')",
        "import os; raise SystemExit('set ' + 'LIKELIHOOD_' + 'DIR first: LIKELIHOOD_DIR')",
    ],
)
def test_the_error_of_a_run_says_which_variable_and_how(
    run_of: object, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("LIKELIHOOD_DIR", "/value/that/is/not/told")
    failed = run_of(text)  # type: ignore[operator]
    assert failed.status == "failed"
    assert "LIKELIHOOD_DIR is set in the kernel but is not passed on" in str(failed.error)
    assert 'pass_env = ["LIKELIHOOD_DIR"]' in str(failed.error)
    assert "/value/that" not in str(failed.error)


def test_a_run_gets_what_its_workspace_passes_on(
    run_of: object, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workspace.home.mkdir(exist_ok=True)
    (workspace.home / "config.toml").write_text('pass_env = ["LIKELIHOOD_*"]\n')
    monkeypatch.setenv("LIKELIHOOD_DIR", "/likelihoods")
    monkeypatch.setenv("LIKELIHOOD_TOKEN", "planted")
    monkeypatch.setenv("CRDS_PATH", "/crds")
    done = run_of(  # type: ignore[operator]
        "import os; print(os.environ['LIKELIHOOD_DIR'], os.environ['CRDS_PATH'], os.environ.get('LIKELIHOOD_TOKEN'))"
    )
    assert done.status == "completed", done.error
    assert "/likelihoods /crds None" in done.events().query("event_type == 'code_exec'").outputs.iloc[0]["stdout"]


def test_a_kernel_of_a_skill_gets_them_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import nbformat

    from cmbagent_nb.skills.running.engine import execute

    workspace.home.mkdir(exist_ok=True)
    (workspace.home / "config.toml").write_text('pass_env = ["LIKELIHOOD_*"]\n')
    monkeypatch.setenv("LIKELIHOOD_DIR", "/likelihoods")
    assert workspace.settings.pass_env == "LIKELIHOOD_*"
    cell = nbformat.v4.new_code_cell("import os\nprint(os.environ['LIKELIHOOD_DIR'], 'OPENAI_API_KEY' in os.environ)")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-0123456789")
    executed = execute(nbformat.v4.new_notebook(cells=[cell]), tmp_path)
    assert executed.status == "completed", executed.error
    assert executed.notebook.cells[0].outputs[0]["text"] == "/likelihoods False\n"
    assert os.environ["LIKELIHOOD_DIR"] == "/likelihoods"
