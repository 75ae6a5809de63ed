"""A permanent-magnet synchronous motor on a test bench: plausible drive cycles with currents, voltages, torque, temperatures.

The columns are those of a well-known public measurement of such a motor, sampled at 2 Hz. The machine is described in the
rotating dq frame, in steady state at each sample (its electrical time constants are far below half a second):

* ``torque = 1.5 * p * (psi * i_q + (L_d - L_q) * i_d * i_q) - friction``
* ``u_d = R * i_d - w * L_q * i_q`` and ``u_q = R * i_q + w * (L_d * i_d + psi)``, with w the electrical angular speed

R grows with the temperature of the winding, psi falls with that of the magnets, L_q saturates. Four masses (winding, tooth,
yoke, magnets) are heated by copper and iron losses and cooled toward the coolant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SAMPLES_PER_SECOND", "Motor", "simulate_measurements"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

SAMPLES_PER_SECOND = 2
"""Rate of the sensor table."""

CANDIDATES = 48
"""Direct currents among which the drive's controller chooses."""


@dataclass(frozen=True, slots=True)
class Motor:
    """Constants of the machine and its drive.

    Attributes
    ----------
    pole_pairs
        Pairs of poles.
    flux
        Flux linkage of the magnets at 20 degrees Celsius, in Vs.
    direct_inductance, quadrature_inductance
        L_d and L_q without saturation, in H.
    resistance
        Of a phase at 20 degrees Celsius, in ohms.
    largest_voltage, largest_torque, largest_speed, largest_power
        Limits of the drive in V, Nm, revolutions per minute and W.
    """

    pole_pairs: int = 8
    flux: float = 0.066
    direct_inductance: float = 0.37e-3
    quadrature_inductance: float = 1.0e-3
    resistance: float = 0.015
    largest_voltage: float = 133.0
    largest_torque: float = 250.0
    largest_speed: float = 6000.0
    largest_power: float = 40e3

    def electrical_speed(self, speed: FloatArray) -> FloatArray:
        """Revolutions per minute to electrical radians per second."""
        return speed * (2 * np.pi / 60 * self.pole_pairs)

    def saturated_inductance(self, quadrature: FloatArray) -> FloatArray:
        """L_q, in H, which falls as the quadrature current, in A, drives the iron into saturation."""
        return self.quadrature_inductance / (1 + np.abs(quadrature) / 900)

    def torque(self, direct: FloatArray, quadrature: FloatArray, flux: FloatArray | float) -> FloatArray:
        """Torque in the air gap, in Nm, of the two currents in A and the flux of the magnets in Vs."""
        saliency = self.direct_inductance - self.saturated_inductance(quadrature)
        torque: FloatArray = 1.5 * self.pole_pairs * (flux + saliency * direct) * quadrature
        return torque

    def voltages(
        self,
        direct: FloatArray,
        quadrature: FloatArray,
        speed: FloatArray,
        flux: FloatArray | float,
        resistance: FloatArray | float,
    ) -> tuple[FloatArray, FloatArray]:
        """u_d and u_q in V, of currents in A, speed in revolutions per minute, flux in Vs and resistance in ohms."""
        omega = self.electrical_speed(speed)
        u_d = resistance * direct - omega * self.saturated_inductance(quadrature) * quadrature
        u_q = resistance * quadrature + omega * (self.direct_inductance * direct + flux)
        return u_d, u_q

    def currents(self, torque: FloatArray, speed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The i_d and i_q, in A, that the controller sets: least current within the voltage the inverter has.

        The controller knows the machine cold and without saturation, so the torque it gets is not quite the torque asked for.
        """
        direct = np.linspace(-260.0, 0.0, CANDIDATES)
        saliency = self.direct_inductance - self.quadrature_inductance
        quadrature = torque[..., None] / (1.5 * self.pole_pairs * (self.flux + saliency * direct))
        u_d, u_q = self.voltages(direct, quadrature, speed[..., None], self.flux, self.resistance)
        excess = np.maximum(np.hypot(u_d, u_q) - 0.93 * self.largest_voltage, 0)
        best = np.argmin(direct**2 + quadrature**2 + 1e4 * excess**2, axis=-1)
        return direct[best], np.take_along_axis(quadrature, best[..., None], -1)[..., 0]


def simulate_measurements(profiles: int, samples: int, seed: int, motor: Motor | None = None) -> pd.DataFrame:
    """Make a sensor table of several drive cycles.

    Parameters
    ----------
    profiles
        Number of drive cycles, told apart by the column ``profile_id``.
    samples
        Rows of each, at 2 Hz.
    seed
        The same seed gives the same table.
    motor
        The machine; a 40 kW one by default.

    Returns
    -------
    pandas.DataFrame
        ``profiles * samples`` rows with the columns u_q, coolant, stator_winding, u_d, stator_tooth, motor_speed, i_d, i_q,
        pm, stator_yoke, ambient, torque and profile_id; V, A, Nm, degrees Celsius and revolutions per minute.
    """
    import pandas as pd

    machine = Motor() if motor is None else motor
    generator = np.random.default_rng(seed)
    speed, wanted = _drive_cycles(generator, profiles, samples, machine)
    i_d, i_q = machine.currents(wanted, speed)
    temperatures = _temperatures(generator, machine, speed, i_d, i_q)
    flux = machine.flux * (1 - 1.1e-3 * (temperatures["pm"] - 20))
    resistance = machine.resistance * (1 + 3.9e-3 * (temperatures["stator_winding"] - 20))
    u_d, u_q = machine.voltages(i_d, i_q, speed, flux, resistance)
    friction = np.sign(speed) * (0.4 + 2.5e-4 * np.abs(speed))
    torque = machine.torque(i_d, i_q, flux) - friction
    columns = {
        "u_q": _measured(generator, u_q, 0.3),
        "coolant": _measured(generator, temperatures["coolant"], 0.05),
        "stator_winding": _measured(generator, temperatures["stator_winding"], 0.1),
        "u_d": _measured(generator, u_d, 0.3),
        "stator_tooth": _measured(generator, temperatures["stator_tooth"], 0.1),
        "motor_speed": _measured(generator, speed, 1.0),
        "i_d": _measured(generator, i_d, 0.4),
        "i_q": _measured(generator, i_q, 0.4),
        "pm": _measured(generator, temperatures["pm"], 0.1),
        "stator_yoke": _measured(generator, temperatures["stator_yoke"], 0.1),
        "ambient": _measured(generator, temperatures["ambient"], 0.05),
        "torque": _measured(generator, torque, 0.3),
    }
    table = pd.DataFrame({name: values.reshape(-1) for name, values in columns.items()})
    table["profile_id"] = np.repeat(np.arange(profiles), samples)
    return table


def _measured(generator: np.random.Generator, values: FloatArray, noise: float) -> FloatArray:
    return values + generator.normal(0, noise, values.shape)


def _drive_cycles(generator: np.random.Generator, profiles: int, samples: int, motor: Motor) -> tuple[FloatArray, FloatArray]:
    """Speed and wanted torque: held for a while, then driven to the next set point as fast as inertia and driver allow."""
    speed = _set_points(generator, profiles, samples, 0.0, motor.largest_speed)
    torque = _set_points(generator, profiles, samples, -motor.largest_torque, motor.largest_torque)
    speed, torque = _smoothed(speed, seconds=4.0), _smoothed(torque, seconds=1.5)
    available = motor.largest_power / np.maximum(speed * (2 * np.pi / 60), 1.0)
    return speed, np.clip(torque, -available, available)


def _set_points(generator: np.random.Generator, profiles: int, samples: int, lowest: float, highest: float) -> FloatArray:
    """Piecewise constant values between two limits, each held for 5 to 90 seconds; every other profile prefers the middle."""
    values = np.empty((profiles, samples))
    for index, row in enumerate(values):
        begin = 0
        while begin < samples:
            end = begin + int(SAMPLES_PER_SECOND * np.exp(generator.uniform(np.log(5), np.log(90))))
            share = generator.beta(2, 2) if index % 2 else generator.uniform()
            row[begin:end] = lowest + (highest - lowest) * share
            begin = end
    return values


def _smoothed(values: FloatArray, *, seconds: float) -> FloatArray:
    """First-order lag along the last axis, from steady state."""
    step = 1 - np.exp(-1 / (SAMPLES_PER_SECOND * seconds))
    smooth = np.empty_like(values)
    state = values[:, 0].copy()
    for index in range(values.shape[1]):
        state += step * (values[:, index] - state)
        smooth[:, index] = state
    return smooth


def _temperatures(
    generator: np.random.Generator, motor: Motor, speed: FloatArray, i_d: FloatArray, i_q: FloatArray
) -> Mapping[str, FloatArray]:
    """Temperatures in degrees Celsius of a network of four masses, by explicit Euler steps."""
    profiles, samples = speed.shape
    coolant = generator.uniform(18, 70, (profiles, 1)) + 1.5 * np.sin(
        np.linspace(0, 12, samples) + generator.uniform(0, 6, (profiles, 1))
    )
    copper = 1.5 * motor.resistance * (i_d**2 + i_q**2)
    iron = 0.05 * np.abs(speed) + 2.2e-5 * speed**2
    # capacities in J/K, conductances in W/K: the winding follows the current in a minute, the magnets in a quarter hour
    winding, tooth, yoke, magnets = (coolant[:, 0] + generator.uniform(0, 25, profiles) for _ in range(4))
    history = np.empty((4, profiles, samples))
    seconds = 1 / SAMPLES_PER_SECOND
    for index in range(samples):
        to_tooth, to_yoke = 38 * (winding - tooth), 50 * (tooth - yoke)
        to_coolant, to_rotor = 60 * (yoke - coolant[:, index]), 6 * (tooth - magnets)
        winding = winding + seconds / 2200 * (copper[:, index] * (1 + 3.9e-3 * (winding - 20)) - to_tooth)
        tooth = tooth + seconds / 3500 * (to_tooth + 0.6 * iron[:, index] - to_yoke - to_rotor)
        yoke = yoke + seconds / 6000 * (to_yoke + 0.3 * iron[:, index] - to_coolant)
        magnets = magnets + seconds / 4000 * (to_rotor + 0.1 * iron[:, index] - 2 * (magnets - coolant[:, index]))
        history[:, :, index] = winding, tooth, yoke, magnets
    names = ("stator_winding", "stator_tooth", "stator_yoke", "pm")
    ambient = 22 + generator.uniform(-3, 3, (profiles, 1)) + np.zeros((1, samples))
    return {**dict(zip(names, history, strict=True)), "coolant": coolant, "ambient": ambient}
