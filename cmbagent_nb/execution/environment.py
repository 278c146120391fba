"""Builds the environment of generated code from an allow-list, so that no API key is inherited by accident.

This is not a sandbox: the code runs as the user, with the user's files. What it does not get
is the API keys, tokens and passwords that happen to be in the kernel's environment.

| variable | passed on |
|---|---|
| of the system, of Python, of numerical libraries, of the field's data and codes | yes |
| that ``pass_env`` names, or that fits one of its patterns (``CRDS_*``) | yes |
| whose name or value looks like a secret (a key, a URL with a password) | only if ``pass_env`` has its exact name |
| any other | no; :func:`withheld` tells the user which of them failed code had asked for |

>>> child_environment(environ={"PATH": "/bin", "OPENAI_API_KEY": "sk-1", "CONDA_TOKEN": "t", "OMP_NUM_THREADS": "2"})
{'OMP_NUM_THREADS': '2', 'PATH': '/bin'}
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

#: Variables that are passed on as they are. ``PYTHONPATH`` is among them so that a library which
#: the user's kernel finds is found by the code, too.
_NAMES = (
    # the system
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TEMP TMP LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH "
    "DYLD_FALLBACK_LIBRARY_PATH XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR SOURCE_DATE_EPOCH SCRATCH "
    "SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERPROFILE APPDATA LOCALAPPDATA PROGRAMDATA NUMBER_OF_PROCESSORS "
    # Python and its surroundings
    "VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONHASHSEED PYTHONUTF8 PYTHONNOUSERSITE PYTHONUSERBASE MPLCONFIGDIR "
    "IPYTHONDIR CC CXX FC F77 F90 CFLAGS CPPFLAGS CXXFLAGS FFLAGS LDFLAGS LD_RUN_PATH CPATH LIBRARY_PATH "
    "PKG_CONFIG_PATH R_HOME JULIA_DEPOT_PATH JULIA_PROJECT GFORTRAN_UNBUFFERED_ALL "
    # certificates and proxies
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY "
    "http_proxy https_proxy ftp_proxy all_proxy no_proxy "
    # data and codes of astronomy and cosmology
    "PYSYN_CDBS WEBBPSF_PATH STPSF_PATH PANDEIA_REFDATA pandeia_refdata GALSIM_SHARE_DIR SFD_DIR DUST_DIR "
    "COBAYA_PACKAGES_PATH COBAYA_NOMPI CAMBDIR CAMB_PATH CAMB_DIR CLASSDIR CLASS_PATH CLASS_DIR MULTINEST_DIR "
    "COSMOSIS_SRC_DIR CSL_DIR "
    "DESI_ROOT DESIMODEL DESI_SPECTRO_REDUX DESI_TARGET SDSS_ACCESS_REMOTE SAS_BASE_DIR FERMI_DIR CALDB CALDBCONFIG "
    "CALDBALIAS HEADAS LHEASOFT PFILES LAL_DATA_PATH SPS_HOME GAMMAPY_DATA TEMPO TEMPO2 PINT_OVERRIDE FITSIO_ROOT "
    "SPICE_KERNELS ISOCHRONES STARFISH_DATA"
)
NAMES = frozenset(_NAMES.split())
#: Beginnings of names: languages, conda, numerical libraries, file formats, and families of data and codes.
PREFIXES = (
    *("LC_", "CONDA_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "VECLIB_", "NUMBA_", "GOTO_"),
    *("CUDA_", "NVIDIA_VISIBLE", "XLA_", "JAX_", "TF_", "ROCR_", "HIP_", "OMPI_", "MPICH_", "SLURM_", "PBS_"),
    *("HDF5_", "NETCDF_", "GDAL_", "PROJ_", "ECCODES_"),
    *("CRDS_", "HEALPIX", "HEALPY_", "PLANCK", "CLIK", "ASTROPY_", "COBAYA_", "CAMB_", "CLASS_", "COSMOSIS_", "DESI_"),
    *("SDSS_", "LSST_", "GALSIM_", "MAST_DATA", "WCSLIB_", "CFITSIO_", "SPECTRE_", "FSPS_", "JWST_", "HST_", "STSCI_"),
    *("jref", "iref", "lref", "uref", "nref", "oref", "xref", "mtab"),
)
SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|AUTH|COOKIE|(?:^|_)(?:PWD|PASS)(?:_|$)", re.IGNORECASE
)
#: A URL with a password in it: a proxy, a database.
_PASSWORD = re.compile(r"://[^\s/@]*:[^\s/@]+@")

#: Variables of a shell, a terminal or a notebook server that code hardly ever means.
_NOT_MEANT = frozenset("_ PWD OLDPWD SHLVL TERM COLUMNS LINES HOSTNAME PS1 LS_COLORS MPLBACKEND DEBUG".split())  # noqa: SIM905


#: What the workspaces that are open here pass on, by their folders: for kernels of skills, which belong to no run.
_open: dict[str, str] = {}


def pass_on(home: str, pass_env: str) -> None:
    """Take note of what a workspace's settings pass on."""
    _open[home] = pass_env


def child_environment(
    extra: Mapping[str, str] | None = None, *, environ: Mapping[str, str] | None = None, pass_env: str | None = None
) -> dict[str, str]:
    """Return the environment for code that a model wrote and for the kernels that run skills.

    Parameters
    ----------
    extra
        Variables to add; the caller answers for them.
    environ
        Where to take variables from; this process's own by default.
    pass_env
        Names and patterns of more variables to pass on, with commas between them: the setting of this name. None stands
        for those of all workspaces that are open in this process.
    """
    environ = os.environ if environ is None else environ
    pass_env = ",".join(_open.values()) if pass_env is None else pass_env
    chosen = {name: value for name, value in sorted(environ.items()) if allowed(name, value, pass_env)}
    return {**chosen, **(extra or {})}


def allowed(name: str, value: str = "", pass_env: str = "") -> bool:
    """Tell whether a variable is passed on.

    >>> allowed("LC_ALL"), allowed("CMBAGENT_HOME"), allowed("CRDS_PATH")
    (True, False, True)
    >>> allowed("HTTPS_PROXY", "http://proxy:80"), allowed("HTTPS_PROXY", "http://ada:secret@proxy:80")
    (True, False)
    >>> allowed("MY_DATA", "/d", "MY_*"), allowed("MY_TOKEN", "t", "MY_*"), allowed("MY_TOKEN", "t", "MY_*, MY_TOKEN")
    (True, False, True)
    """
    wanted = [item.strip() for item in pass_env.split(",") if item.strip()]
    if name in wanted:
        return True
    if SECRET.search(name) or _PASSWORD.search(value):
        return False
    upper = name.upper() if os.name == "nt" else name
    return upper in NAMES or upper.startswith(PREFIXES) or any(fnmatchcase(name, item) for item in wanted)


def withheld(code: str, told: str, *, environ: Mapping[str, str] | None = None, pass_env: str = "") -> list[str]:
    """Return the variables that are set here and not passed on, and that failed code asked for.

    Parameters
    ----------
    code
        The code: a variable counts that stands in it as a string, or as ``$NAME``.
    told
        What the code said when it failed: a variable counts that is named there.

    >>> withheld("import os\\nos.environ['MY_DATA']", "KeyError: 'MY_DATA'", environ={"MY_DATA": "/d", "OTHER": "1"})
    ['MY_DATA']
    """
    environ = os.environ if environ is None else environ
    found = []
    for name, value in sorted(environ.items()):
        if name in _NOT_MEANT or len(name) < 3 or allowed(name, value, pass_env):
            continue
        word = re.escape(name)
        if re.search(rf"""["']{word}["']|\$\{{?{word}\b""", code) or re.search(rf"(?<![\w/.]){word}(?![\w/.])", told):
            found.append(name)
    return found


def withheld_text(names: list[str]) -> str:
    """Say that variables are not passed on, and how they can be; empty where there are none.

    >>> print(withheld_text(["MY_DATA"]))
    MY_DATA is set in the kernel but is not passed on to the code of steps and skills. To pass it on, add \
pass_env = ["MY_DATA"] to config.toml, or set CMBAGENT_PASS_ENV=MY_DATA.
    """
    if not names:
        return ""
    one = len(names) == 1
    listed = names[0] if one else f"{', '.join(names[:-1])} and {names[-1]}"
    quoted = ", ".join(f'"{name}"' for name in names)
    return (
        f"{listed} {'is' if one else 'are'} set in the kernel but {'is' if one else 'are'} not passed on to the code of"
        f" steps and skills. To pass {'it' if one else 'them'} on, add pass_env = [{quoted}] to config.toml,"
        f" or set CMBAGENT_PASS_ENV={','.join(names)}."
    )
