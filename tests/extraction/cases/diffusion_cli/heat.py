import argparse
import sys

import numpy as np
from scipy.linalg import solve_banded


def build_parser():
    p = argparse.ArgumentParser(prog="heat", description="1D heat equation")
    p.add_argument("-L", "--length", type=float, default=1.0, metavar="M", help="length of the rod [m]")
    p.add_argument("-n", "--points", type=int, default=101)
    p.add_argument("-D", "--diffusivity", type=float, default=1e-4, help="[m^2/s]")
    p.add_argument("--centre", type=float, default=0.5)
    p.add_argument("--width", type=float, default=0.05)
    p.add_argument("-t", "--t-end", type=float, default=100.0, dest="t_end", help="[s]")
    p.add_argument("--dt", type=float, default=0.25, help="time step [s]")
    p.add_argument("--scheme", default="crank-nicolson", choices=("explicit", "crank-nicolson"))
    p.add_argument("--boundary", default="fixed", choices=("fixed", "insulated"))
    p.add_argument("--snapshots", type=int, default=5)
    p.add_argument("-o", "--out", default="data/heat.csv")
    p.add_argument("-v", "--verbose", action="store_true")
    return p


def step_matrix(n, r, insulated):
    lower, main, upper = -r * np.ones(n), (1 + 2 * r) * np.ones(n), -r * np.ones(n)
    if insulated:
        upper[1] = lower[-2] = -2 * r
    else:
        upper[1] = lower[-2] = 0
        main[0] = main[-1] = 1
    return np.array([upper, main, lower])


def laplacian(u, insulated):
    out = np.zeros_like(u)
    out[1:-1] = u[2:] - 2 * u[1:-1] + u[:-2]
    if insulated:
        out[0], out[-1] = 2 * (u[1] - u[0]), 2 * (u[-2] - u[-1])
    return out


def main(argv=None):
    args = build_parser().parse_args(argv)
    x, dx = np.linspace(0, args.length, args.points, retstep=True)
    u = np.exp(-0.5 * ((x - args.centre) / args.width) ** 2)
    r = args.diffusivity * args.dt / dx**2
    insulated = args.boundary == "insulated"
    if args.scheme == "explicit" and r > 0.5:
        sys.exit(f"unstable: r = {r:.2f} is larger than 0.5; take a smaller --dt")
    n_steps = round(args.t_end / args.dt)
    keep = set(np.linspace(0, n_steps, args.snapshots, dtype=int).tolist())
    columns, names = [x], ["x"]
    matrix = step_matrix(args.points, r / 2, insulated)
    for i in range(n_steps + 1):
        if i in keep:
            columns.append(u.copy())
            names.append(f"t{i * args.dt:g}")
            if args.verbose:
                print(f"t = {i * args.dt:g} s: maximum {u.max():.4f}")
        if args.scheme == "explicit":
            u = u + r * laplacian(u, insulated)
        else:
            u = solve_banded((1, 1), matrix, u + r / 2 * laplacian(u, insulated))
    np.savetxt(args.out, np.column_stack(columns), delimiter=",", header=",".join(names), comments="", fmt="%.7f")
    print(f"{args.scheme}: {n_steps} steps, heat left {np.trapezoid(u, x):.6f}")


if __name__ == "__main__":
    main([])
