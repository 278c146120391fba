#!/usr/bin/env python
"""Integrate a Kepler orbit in units of AU and years."""
import argparse
from pathlib import Path

import numpy as np

GM_SUN = 4 * np.pi**2  # AU^3 / yr^2


def acceleration(r):
    return -GM_SUN * r / np.linalg.norm(r) ** 3


def integrate(r, v, dt, n, method):
    track = np.empty((n + 1, 4))
    track[0] = *r, *v
    for i in range(1, n + 1):
        if method == "leapfrog":
            v_half = v + 0.5 * dt * acceleration(r)
            r = r + dt * v_half
            v = v_half + 0.5 * dt * acceleration(r)
        else:
            r, v = r + dt * v, v + dt * acceleration(r)
        track[i] = *r, *v
    return track


def energy(track):
    r = np.hypot(track[:, 0], track[:, 1])
    return 0.5 * (track[:, 2] ** 2 + track[:, 3] ** 2) - GM_SUN / r


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--a", type=float, default=1.0, help="semi-major axis [AU]")
    parser.add_argument("--eccentricity", "-e", type=float, default=0.4)
    parser.add_argument("--years", type=float, default=3.0, help="duration [yr]")
    parser.add_argument("--steps-per-year", type=int, default=1000)
    parser.add_argument("--method", choices=["leapfrog", "euler"], default="leapfrog")
    parser.add_argument("--no-plot", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("data/orbit.npy"))
    args = parser.parse_args()

    r = np.array([args.a * (1 - args.eccentricity), 0.0])
    speed = np.sqrt(GM_SUN / args.a * (1 + args.eccentricity) / (1 - args.eccentricity))
    n = int(args.years * args.steps_per_year)
    track = integrate(r, np.array([0.0, speed]), 1 / args.steps_per_year, n, args.method)
    np.save(args.output, track)

    e = energy(track)
    error = np.abs(e / e[0] - 1)
    np.savetxt("data/energy_error.csv", np.c_[np.arange(n + 1) / args.steps_per_year, error][::50],
               delimiter=",", header="year,relative_error", comments="")
    if not args.no_plot:
        import matplotlib.pyplot as plt

        plt.plot(track[:, 0], track[:, 1], lw=0.6)
        plt.plot(0, 0, "y*", ms=12)
        plt.axis("equal")
        plt.savefig("plots/orbit.png")
    print(f"{args.method}: {n} steps, largest energy error {error.max():.2e}")


if __name__ == "__main__":
    main()
