"""Constants of nature and conversion factors: values that nobody varies, told by name and value together.

A name alone decides nothing: ``G = 0.5`` may be a gain, ``c = 5.0`` a concentration, ``h = 0.7`` a Hubble parameter.
"""

from __future__ import annotations

import re

#: Names in lower case → values in the systems of units that are used; a power of ten apart is another unit.
_KNOWN: dict[str, tuple[float, ...]] = {
    "c clight c_light speed_of_light c_kms c_km_s c_si c_cgs c_light_kms lightspeed": (2.99792458, 3.0),
    "g g_newton grav gnewton big_g gravitational_constant newton_g g_const": (6.6743, 4.30091, 4.4985, 3.9478),
    "h h_planck planck planck_constant hplanck h_p": (6.62607015, 4.135667),
    "hbar h_bar hbarc hbar_c": (1.054571817, 6.582119569, 1.973269804),
    "k k_b kb kboltz boltzmann boltzmann_constant k_boltzmann": (1.380649, 8.617333),
    "n_a na avogadro": (6.02214076,),
    "sigma_sb sb stefan_boltzmann sigma sigmasb": (5.670374419,),
    "sigma_t thomson sigma_thomson sigmat": (6.6524587,),
    "a_rad arad a_r": (7.565723,),
    "m_e me electron_mass mass_electron": (9.1093837, 5.1099895),
    "m_p mp proton_mass mass_proton": (1.67262192, 9.38272088),
    "m_n mn neutron_mass": (1.67492749, 9.39565420),
    "e q_e e_charge charge elementary_charge qe": (1.602176634, 4.80320471),
    "m_sun msun solar_mass m_solar": (1.98847, 1.989, 1.9885, 2.0),
    "l_sun lsun solar_luminosity": (3.828, 3.839, 3.846, 3.826),
    "r_sun rsun solar_radius": (6.957, 6.96, 6.955),
    "m_earth mearth": (5.9722, 5.97),
    "r_earth rearth earth_radius": (6.371, 6.378137),
    "m_jup mjup m_jupiter": (1.898,),
    "pc parsec kpc mpc megaparsec gpc": (3.0856776,),
    "au astronomical_unit": (1.495978707, 1.496),
    "ly lightyear light_year": (9.4607304725808,),
    "yr year gyr myr sec_per_year seconds_per_year julian_year": (3.15576, 3.1536, 3.1557, 3.156),
    "day seconds_per_day sec_per_day": (8.64,),
    "r gas_constant r_gas": (8.314462618,),
    "f faraday": (9.648533212,),
    "g g_earth g0 grav_acc gravity": (9.80665, 9.81, 9.8),
    "mu_0 mu0": (1.25663706,),
    "eps_0 eps0 epsilon_0 epsilon0": (8.8541878128,),
    "alpha alpha_fs fine_structure alpha_em": (7.2973525693, 1.37035999),
    "g_f gf fermi": (1.1663787,),
    "ry rydberg": (1.0973731568, 1.3605693, 2.1798723),
    "a_0 a0 bohr_radius": (5.29177211,),
    "b wien": (2.897771955,),
    "pi": (3.14159265358979,),
    "e euler": (2.718281828459045,),
    "ev ev_to_j ev_j": (1.602176634,),
}
_BY_NAME: list[tuple[frozenset[str], tuple[float, ...]]] = [
    (frozenset(names.split()), values) for names, values in _KNOWN.items()
]
_UNITS = (
    "m|cm|mm|um|nm|km|pc|kpc|mpc|gpc|au|ly|inch|inches|foot|feet|ft|mile|miles|s|sec|secs|second|seconds|ms|min|minute|minutes|"
    "h|hr|hour|hours|d|day|days|week|weeks|month|months|yr|year|years|myr|gyr|deg|degree|degrees|rad|radian|radians|"
    "arcmin|arcsec|mas|steradian|sr|sqdeg|hz|khz|mhz|ghz|ev|kev|mev|gev|tev|j|joule|joules|erg|ergs|cal|kcal|k|kelvin|c|f|"
    "celsius|fahrenheit|kg|g|gram|grams|mg|ton|tons|lb|msun|lsun|rsun|m_sun|amu|pa|bar|mbar|atm|torr|jy|mjy|mag|flux|w|watt|"
    "watts|v|volt|volts|t|tesla|gauss|nt|uk|muk|db|percent|bit|bits|byte|bytes|mb|gb|mol|mole"
)
_CONVERSION = re.compile(rf"^({_UNITS})(_(to|per|in)_|_?2_?)({_UNITS})(_\w{{1,3}})?$", re.IGNORECASE)
#: Constants as they are often written; nothing else has just these digits.
_WRITTEN = frozenset(
    {299792.458, 299792458.0, 2.99792458e10, 6.674e-11, 6.6743e-11, 6.62607015e-34, 1.380649e-23, 3.14159, 3.1415926535,
     3.141592653589793, 2.718281828459045, 6.02214076e23, 5.670374419e-8, 9.80665}
)  # fmt: skip
_EXACT, _NEAR = 1e-6, 3e-3


def is_of_nature(name: str, value: object) -> bool:
    """Tell whether a value is a constant of nature: by its many digits, or by its name and its first digits.

    >>> is_of_nature("G", 6.674e-11), is_of_nature("c", 5.0), is_of_nature("speed", 299792.458), is_of_nature("h", 0.7)
    (True, False, True, False)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value:
        return False
    if value in _WRITTEN:
        return True
    digits = len(f"{abs(value):.15e}".partition("e")[0].replace(".", "").rstrip("0"))
    lower = name.lower().strip("_")
    for names, values in _BY_NAME:
        for known in values:
            apart = abs(_mantissa(value) / _mantissa(known) - 1.0)
            if lower in names and apart < _NEAR and not _everyday(known, value):
                return True
            if digits >= 7 and apart < _EXACT:
                return True
    return False


def _everyday(known: float, value: float) -> bool:
    """Tell whether a value has so few digits that many quantities have it: 2, 3, 0.3."""
    return known in (2.0, 3.0) and not abs(value) >= 1e4


def _mantissa(value: float) -> float:
    return float(f"{abs(value):.15e}".partition("e")[0])


def is_conversion(name: str) -> bool:
    """Tell whether a name is that of a factor between two units.

    >>> [is_conversion(name) for name in ("DEG2RAD", "km_per_mpc", "sec_to_yr", "dm21", "bins_per_decade", "MIN_DAYS")]
    [True, True, True, False, False, False]
    """
    return _CONVERSION.match(name) is not None
