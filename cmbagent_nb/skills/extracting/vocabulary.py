"""The words by which a value that a user would vary is told from one that only draws or indexes.

Everything here is about names: of variables, of keywords, of functions. The rules that use
them are in :mod:`cmbagent_nb.skills.extracting.parameters`. A word that is in doubt is left out: a missed
parameter costs a line of editing, a silly one makes every skill harder to read.
"""

from __future__ import annotations

import re

from cmbagent_nb.skills.extracting.nature import is_conversion, is_of_nature


def listed(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


#: Names of things that change how a result looks, is laid out or is written, not what it is.
COSMETIC = listed(
    """
    figsize dpi color colors colour colours c ec fc edgecolor facecolor edgecolors facecolors fontsize font
    fontweight labelsize titlesize lw linewidth linewidths ls linestyle linestyles marker markers markersize ms
    markeredgecolor mew markerfacecolor mec mfc cmap palette zorder loc bbox_to_anchor bbox_inches pad pad_inches
    hspace wspace left right top bottom rotation ha va label labels title titles suptitle xlabel ylabel zlabel
    legend ncol ncols nrows sharex sharey style styles theme transparent capsize elinewidth hatch width height
    bar_width aspect interpolation shrink fraction origin extent annotate text grid x_label y_label plot_title xlim
    ylim axis axes frameon shadow fmt text_x text_y xytext textcoords arrowprops histtype projection tight_layout
    constrained_layout plot_style verbose debug quiet disp show save plot log_level logging level progress leave
    desc ticks labelpad encoding sep delimiter indent ensure_ascii sort_keys index index_col header names usecols
    dtype engine orient mode newline compression float_format decimals precision width_px ddof keepdims inplace copy
    how on by ascending ignore_index axis_order order_by parse_dates comment skiprows skip_header unpack parents
    exist_ok allow_pickle full_output maxfev absolute_sigma rcond rtol atol check errors stacklevel category n_jobs
    nthreads num_threads workers processes threads timeout retries buffering units raw_cl cmb_unit return_index
    return_counts n_columns drop observed dropna as_index numeric_only kind_plot density cov bias fill_value kde
    stat squeeze dim device gridspec_kw height_ratios width_ratios zlim clim vmin vmax barh alpha_plot figure_size
    fig_size image_size font_size line_width marker_size plot_dpi fig_dpi max_rows max_columns ascii tight bbox
    expand xycoords
    """
)
#: Words that are cosmetic in a drawing and a quantity elsewhere: a constant of that name counts if it is more.
AMBIGUOUS = listed(
    """
    height width top bottom left right fraction aspect extent density center centre pad margin order shrink rotation
    timeout precision decimals atol rtol left_edge right_edge length dim
    """
)
#: Parts of names that mark them as cosmetic, as a column's name, or as a folder.
COSMETIC_PART = re.compile(
    r"(^|_)(figsize|fig_?size|dpi|colou?rs?|cmap|palette|font\w*|linewidth|linestyle|marker\w*|title|caption|label|labels|legend|"
    r"xlabel|ylabel|style|theme|hatch|rcparams|zorder|verbose|debug|encoding|delimiter|sep|indent|header|message|msg|"
    r"banner|format|fmt|regex|pattern|url|doi|citation|reference|author|version|units?|dir|dirs|directory|folder|root|"
    r"col|cols|column|columns|field|fields|key|keys|dtype|names?|prefix|suffix|ext|extension|description|text|note|notes)$",
    re.IGNORECASE,
)
#: Constants of nature and of arithmetic: a user does not vary the speed of light.
CONSTANT_NAME = re.compile(
    r"^(c|c_?(km_?s|kms|light|si|cgs|m_?s)|c_km_per_s|speed_of_light\w*|light_?speed\w*|g_?newton|grav\w*const\w*|k_?b|boltzmann\w*|h_?planck|planck_?(const\w*|h)|"
    r"hbar|sigma_?sb|sigma_?t|m_?(e|p|sun)|msun|pi|two_?pi|tau_circle|euler|e_charge|avogadro|n_?a|eps(ilon)?|tiny|"
    r"deg|rad|arcmin|arcsec|(sec|seconds|minutes|hours|days)_per_\w+|mpc|kpc|pc|gyr|myr)$",
    re.IGNORECASE,
)
#: Names of loop counters, accumulators and other working variables.
WORKING = listed(
    """
    i j n_rows n_cols count counter total running_total result results total_sum sum_ acc idx ii jj kk row col done
    found flag ok success status offset start_time t0_clock ret rc n_params k_params n_free ndof dof nfree dim ndim
    eps epsilon tiny
    """
)
#: Keywords that users of such code vary: what a call is about, not how it is done.
KNOBS = listed(
    """
    lmax l_max ell_max lmin l_min ell_min h0 ombh2 omch2 omega_m omegam om0 ode0 ob0 omega_b omega_c omega_k omk mnu
    nnu neff tau as ns a_s n_s r w w0 wa h hubble sigma8 zmax z_max zmin z_min kmax k_max kmin k_min nside redshifts
    n_bins nbins bins bin_width degree deg order n_samples nsamples n_sample n_steps nsteps n_iter n_iterations
    niter max_iter maxiter nwalkers n_walkers n_burn burn burnin n_bootstrap n_boot n_resamples n_simulations n_sims
    n_trials n_draws seed random_state random_seed threshold thresholds cutoff cut window window_size bandwidth
    bw_method smoothing sigma_clip n_sigma nsigma clip n_clusters k_clusters n_components n_neighbors n_estimators
    max_depth learning_rate n_epochs epochs batch_size test_size train_size alpha_reg c_reg gamma lag lags max_lag
    nlags period periods n_periods frequency freq_min freq_max min_frequency max_frequency minimum_frequency
    maximum_frequency samples_per_peak confidence confidence_level credible quantile q quantiles percentile n_points
    npoints n_grid grid_size lens_potential_accuracy quantity mass temperature velocity amplitude slope intercept
    noise noise_level t_max tmax dt step_size duration_s sampling_rate sample_rate fs rate distance radius min_count
    min_periods min_samples min_size n_top top_n n_largest nterms n_terms delta rho scale_factor year_min year_max
    start_year end_year horizon n_folds n_splits cv h0_fid omega_m_fid
    """
)
#: Keywords and defaults that hold a list to vary: where a fit begins, at which places something is taken.
KNOB_LISTS = listed(
    """
    p0 x0 y0 initial initial_guess guess start start_values starting_values theta0 levels percentiles quantiles q
    redshifts edges
    """
)
#: Names of texts that choose how something is done.
CHOICES = listed(
    """
    method alternative freq frequency kernel scheme metric solver integrator algorithm rule strategy quantity species
    window_type filter_type band survey statistic estimator distribution start end start_date end_date date since until
    model_name wavelet criterion penalty linkage detrend scaling interpolation_method bw_method
    """
)
#: Those of them that name a method, whether or not the task does.
METHODS = listed(
    "method alternative kernel freq metric criterion linkage wavelet detrend penalty solver integrator rule"
)
#: A text that can be a choice: one word, as options have it.
CHOICE = re.compile(r"[A-Za-z0-9][\w.+\-]{0,30}")
DATE = re.compile(r"\d{4}(-\d{2}(-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?)?)|\d{4}/\d{2}/\d{2}")
_FOLDERS = listed("data plots input inputs output outputs results figures codebase tmp . ..")
#: Functions whose keywords and numbers only draw.
DRAWING_OWNER = re.compile(
    r"^(plt|ax\w*|axes\w*|fig\w*|pyplot|sns|seaborn|plotly|px|go|cbar|colorbar|legend|gs|mpl|matplotlib|axs?|canvas)$"
)
DRAWING_EXCEPT = frozenset({"hist", "hist2d", "hexbin", "histplot", "contour", "contourf"})
#: Positional literals with a meaning: function name → (position, the parameter's name, its help).
POSITIONS: dict[str, tuple[int, str, str]] = {
    "seed": (0, "seed", "seed of the random numbers"),
    "default_rng": (0, "seed", "seed of the random numbers"),
    "RandomState": (0, "seed", "seed of the random numbers"),
    "Random": (0, "seed", "seed of the random numbers"),
    "PRNGKey": (0, "seed", "seed of the random numbers"),
    "manual_seed": (0, "seed", "seed of the random numbers"),
    "rolling": (0, "window", "points in the moving window"),
    "polyfit": (2, "degree", "degree of the polynomial"),
    "nlargest": (0, "n_largest", "how many of the largest"),
    "nsmallest": (0, "n_smallest", "how many of the smallest"),
    "set_for_lmax": (0, "lmax", "highest multipole"),
    "quantile": (0, "quantile", "the quantile taken, 0 to 1"),
}
#: Only those of :data:`POSITIONS` that are parameters whether or not the task names their value.
ALWAYS = frozenset(
    {"seed", "default_rng", "RandomState", "Random", "PRNGKey", "manual_seed", "rolling", "polyfit", "set_for_lmax"}
)

#: What well-known names mean, with their unit: name in lower case → (help, unit).
GLOSSARY: dict[str, tuple[str, str]] = {
    "h0": ("Hubble constant", "km/s/Mpc"),
    "lmax": ("highest multipole", ""),
    "l_max": ("highest multipole", ""),
    "lmin": ("lowest multipole", ""),
    "ell_max": ("highest multipole", ""),
    "ell_min": ("lowest multipole", ""),
    "ombh2": ("physical density of baryons", ""),
    "omch2": ("physical density of cold dark matter", ""),
    "omega_m": ("matter density today", ""),
    "omegam": ("matter density today", ""),
    "om0": ("matter density today", ""),
    "omega_k": ("curvature density today", ""),
    "omk": ("curvature density today", ""),
    "mnu": ("sum of the neutrino masses", "eV"),
    "tau": ("optical depth to reionisation", ""),
    "as": ("amplitude of the primordial spectrum", ""),
    "a_s": ("amplitude of the primordial spectrum", ""),
    "ns": ("tilt of the primordial spectrum", ""),
    "n_s": ("tilt of the primordial spectrum", ""),
    "sigma8": ("amplitude of matter fluctuations in 8 Mpc/h", ""),
    "w0": ("dark-energy equation of state today", ""),
    "wa": ("change of the dark-energy equation of state", ""),
    "zmax": ("highest redshift", ""),
    "z_max": ("highest redshift", ""),
    "zmin": ("lowest redshift", ""),
    "z_min": ("lowest redshift", ""),
    "seed": ("seed of the random numbers", ""),
    "random_state": ("seed of the random numbers", ""),
    "random_seed": ("seed of the random numbers", ""),
    "n_bins": ("number of bins", ""),
    "nbins": ("number of bins", ""),
    "bins": ("number of bins, or their edges", ""),
    "window": ("points in the moving window", ""),
    "degree": ("degree of the polynomial", ""),
    "n_samples": ("number of samples", ""),
    "n_bootstrap": ("number of bootstrap samples", ""),
    "threshold": ("the limit that decides", ""),
}

FILE_SUFFIX = re.compile(
    r"\.(csv|tsv|txt|dat|json|jsonl|ndjson|npy|npz|parquet|feather|fits|fit|fz|h5|hdf5|nc|xlsx?|ya?ml|toml|png|jpe?g|pdf|svg|"
    r"gif|tiff?|webp|bmp|md|rst|tex|html?|xml|pkl|pickle|joblib|sqlite|db|gz|bz2|xz|zip|tar|wav|mat|sav|ecsv|vot|log)$",
    re.IGNORECASE,
)


def is_working(name: str, value: object) -> bool:
    """Tell whether a name is a counter's or an accumulator's.

    >>> is_working("offset", 0), is_working("OFFSET", -12.5)
    (True, False)
    """
    return name.lower() in WORKING and not (name.isupper() and isinstance(value, float))


def is_cosmetic(name: str) -> bool:
    """Tell whether a name is about looks, layout, columns or folders.

    >>> [is_cosmetic(name) for name in ("figsize", "LINE_COLOR", "OUTPUT_DIR", "lmax", "n_bins")]
    [True, True, True, False, False]
    """
    return name.lower() in COSMETIC or COSMETIC_PART.search(name) is not None


def is_folder(value: str) -> bool:
    """Tell whether a text is the name of a folder rather than a choice.

    >>> is_folder("plots"), is_folder("linear")
    (True, False)
    """
    return value.strip("/").lower() in _FOLDERS or value.endswith("/")


def is_constant(name: str, value: object, *, spoken: bool = False) -> bool:
    """Tell whether a value is a constant of nature or of arithmetic, or a factor between units.

    Parameters
    ----------
    spoken
        Whether the task names it, or a comment gives its unit: then its name alone does not make it one.

    >>> is_constant("C_KMS", 299792.458), is_constant("H0", 67.36), is_constant("eps", 0.05, spoken=True)
    (True, False, False)
    """
    if is_of_nature(name, value) or is_conversion(name):
        return True
    return CONSTANT_NAME.match(name) is not None and name.lower() not in KNOBS and not spoken


def words(name: str) -> list[str]:
    """Split a name into its words.

    >>> words("nBootstrap_samples")
    ['n', 'bootstrap', 'samples']
    """
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def explain(name: str) -> tuple[str, str]:
    """Return help and unit for a name that is known, or its words.

    >>> explain("H0"), explain("N_WALKERS")
    (('Hubble constant', 'km/s/Mpc'), ('n walkers', ''))
    """
    known = GLOSSARY.get(name.lower())
    return known if known else (" ".join(words(name)), "")
