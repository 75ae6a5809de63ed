"""Fit the cycle estimate of ``npusim lint`` again, and print it beside the published figures.

Run: python benchmarks/cycle_fit.py
"""

from __future__ import annotations

from npusim.rules.cycles import fit_cycles, published_points


def main() -> None:
    points = published_points()
    fit = fit_cycles(points)
    layer, single, other = fit.prices
    print(f"cycles = {layer:.1f} * layers + {single:.3f} * MACs of one input channel + {other:.4f} * other MACs\n")
    print("network    length  layers   MACs (1 ch.)   other MACs   published   estimate   error")
    for point in points:
        estimate = sum(price * feature for price, feature in zip(fit.prices, point.features, strict=True))
        layers, first, rest = point.features
        print(
            f"{point.network:10} {point.length:6} {layers:7} {first:14,} {rest:12,} {point.cycles:11,} {estimate:10,.0f} "
            f"{estimate / point.cycles - 1:+7.1%}"
        )
    print(f"\nlargest error {fit.largest_error:.1%}; on a network left out of the fit {fit.left_out_error:.1%}")


if __name__ == "__main__":
    main()
