"""The environment of generated code: an allow-list, so that a key is never inherited by accident.

This is not a sandbox: the code runs as the user, with the user's files. What it does not get
is the API keys, tokens and passwords that happen to be in the kernel's environment.

>>> child_environment(environ={"PATH": "/bin", "OPENAI_API_KEY": "sk-1", "CONDA_TOKEN": "t", "OMP_NUM_THREADS": "2"})
{'OMP_NUM_THREADS': '2', 'PATH': '/bin'}
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

#: Variables that are passed on as they are. ``PYTHONPATH`` is among them so that a library which
#: the user's kernel finds is found by the code, too.
_NAMES = (
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TEMP TMP VIRTUAL_ENV LD_LIBRARY_PATH DYLD_LIBRARY_PATH "
    "DYLD_FALLBACK_LIBRARY_PATH PYTHONPATH PYTHONHOME PYTHONHASHSEED PYTHONUTF8 SOURCE_DATE_EPOCH MPLCONFIGDIR "
    "XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME IPYTHONDIR SSL_CERT_FILE SSL_CERT_DIR CUDA_VISIBLE_DEVICES CUDA_HOME "
    "SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERPROFILE APPDATA LOCALAPPDATA PROGRAMDATA "
    "NUMBER_OF_PROCESSORS"
)
NAMES = frozenset(_NAMES.split())
#: Beginnings of names: languages, conda, and the numbers of threads of numerical libraries.
PREFIXES = ("LC_", "CONDA_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "VECLIB_", "NUMBA_", "GOTO_")
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|AUTH", re.IGNORECASE)


def child_environment(
    extra: Mapping[str, str] | None = None, *, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment for code that a model wrote and for the kernels that run skills.

    Parameters
    ----------
    extra
        Variables to add; the caller answers for them.
    environ
        Where to take variables from; this process's own by default.
    """
    environ = os.environ if environ is None else environ
    chosen = {name: value for name, value in sorted(environ.items()) if allowed(name)}
    return {**chosen, **(extra or {})}


def allowed(name: str) -> bool:
    """Tell whether a variable is passed on.

    >>> allowed("LC_ALL"), allowed("CMBAGENT_HOME"), allowed("HTTPS_PROXY")
    (True, False, False)
    """
    upper = name.upper() if os.name == "nt" else name
    return (upper in NAMES or upper.startswith(PREFIXES)) and not SECRET.search(upper)
