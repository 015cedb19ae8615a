"""The entity that Home Assistant must have for each key.

Written by hand after the contract, so that a mistake in the tables of the program is found.
"""

import re

DIAGNOSTIC, SHOWN, HIDDEN = "diagnostic", True, False

# key: component, device class, state class, unit, category, digits shown, enabled by default
ENTITIES = {
    "soc": ("sensor", "battery", "measurement", "%", None, 1, SHOWN),
    "soh": ("sensor", None, "measurement", "%", DIAGNOSTIC, 0, SHOWN),
    "pack_voltage": ("sensor", "voltage", "measurement", "V", None, 2, SHOWN),
    "pack_current": ("sensor", "current", "measurement", "A", None, 2, SHOWN),
    "power": ("sensor", "power", "measurement", "W", None, 0, SHOWN),
    "charge_power": ("sensor", "power", "measurement", "W", None, 0, HIDDEN),
    "discharge_power": ("sensor", "power", "measurement", "W", None, 0, HIDDEN),
    "remaining_capacity": ("sensor", None, "measurement", "Ah", None, 1, SHOWN),
    "full_capacity": ("sensor", None, "measurement", "Ah", DIAGNOSTIC, 1, SHOWN),
    "design_capacity": ("sensor", None, "measurement", "Ah", DIAGNOSTIC, 1, HIDDEN),
    "energy_charged": ("sensor", "energy", "total_increasing", "kWh", None, 2, SHOWN),
    "energy_discharged": ("sensor", "energy", "total_increasing", "kWh", None, 2, SHOWN),
    "cycle_count": ("sensor", None, "total_increasing", None, DIAGNOSTIC, 0, SHOWN),
    "status": ("sensor", "enum", None, None, None, None, SHOWN),
    "ambient_temp": ("sensor", "temperature", "measurement", "°C", DIAGNOSTIC, 1, SHOWN),
    "mos_temp": ("sensor", "temperature", "measurement", "°C", DIAGNOSTIC, 1, SHOWN),
    "min_temp": ("sensor", "temperature", "measurement", "°C", DIAGNOSTIC, 1, SHOWN),
    "max_temp": ("sensor", "temperature", "measurement", "°C", DIAGNOSTIC, 1, SHOWN),
    "avg_temp": ("sensor", "temperature", "measurement", "°C", None, 1, SHOWN),
    "temp_N": ("sensor", "temperature", "measurement", "°C", DIAGNOSTIC, 1, HIDDEN),
    "min_cell_voltage": ("sensor", "voltage", "measurement", "V", None, 3, SHOWN),
    "max_cell_voltage": ("sensor", "voltage", "measurement", "V", None, 3, SHOWN),
    "cell_voltage_diff": ("sensor", "voltage", "measurement", "V", None, 3, SHOWN),
    "min_cell": ("sensor", None, None, None, DIAGNOSTIC, 0, HIDDEN),
    "max_cell": ("sensor", None, None, None, DIAGNOSTIC, 0, HIDDEN),
    "cell_N_voltage": ("sensor", "voltage", "measurement", "V", DIAGNOSTIC, 3, SHOWN),
    "charging_enabled": ("binary_sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "discharging_enabled": ("binary_sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "balancing": ("binary_sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "balancing_cells": ("sensor", None, None, None, DIAGNOSTIC, None, HIDDEN),
    "problem": ("binary_sensor", "problem", None, None, None, None, SHOWN),
    "alarm_N": ("binary_sensor", "problem", None, None, DIAGNOSTIC, None, HIDDEN),
    "last_update": ("sensor", "timestamp", None, None, DIAGNOSTIC, None, HIDDEN),
    "read_duration": ("sensor", "duration", "measurement", "ms", DIAGNOSTIC, 0, HIDDEN),
    "read_errors": ("sensor", None, "total_increasing", None, DIAGNOSTIC, 0, HIDDEN),
    "readings_rejected": ("sensor", None, "total_increasing", None, DIAGNOSTIC, 0, HIDDEN),
    "connection": ("binary_sensor", "connectivity", None, None, DIAGNOSTIC, None, SHOWN),
    "alarm": ("event", None, None, None, None, None, SHOWN),
    "time_to_full": ("sensor", "duration", "measurement", "s", None, 0, SHOWN),
    "time_to_empty": ("sensor", "duration", "measurement", "s", None, 0, SHOWN),
    "min_cell_battery": ("sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "max_cell_battery": ("sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "pack_voltage_spread": ("sensor", "voltage", "measurement", "V", DIAGNOSTIC, 3, SHOWN),
    "soc_spread": ("sensor", None, "measurement", "%", DIAGNOSTIC, 1, SHOWN),
    "members_missing": ("sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "charging_switch": ("switch", "switch", None, None, None, None, SHOWN),
    "discharging_switch": ("switch", "switch", None, None, None, None, SHOWN),
    "remaining_energy": ("sensor", "energy_storage", "measurement", "Wh", None, 0, SHOWN),
    "voltage_status": ("sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "current_status": ("sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "temperature_status": ("sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "error_code": ("sensor", None, None, None, DIAGNOSTIC, None, HIDDEN),
    "module_N_serial_number": ("sensor", None, None, None, DIAGNOSTIC, None, SHOWN),
    "module_N_min_cell_voltage": ("sensor", "voltage", "measurement", "V", None, 3, SHOWN),
    "module_N_max_cell_voltage": ("sensor", "voltage", "measurement", "V", None, 3, SHOWN),
    "module_N_cell_voltage_diff": ("sensor", "voltage", "measurement", "V", None, 3, SHOWN),
    "read": ("button", None, None, None, DIAGNOSTIC, None, SHOWN),
}
FIELDS = ("component", "class", "state_class", "unit", "category", "precision", "enabled")

# Only a bank has these.
OF_A_BANK = {
    "min_cell_battery",
    "max_cell_battery",
    "pack_voltage_spread",
    "soc_spread",
    "members_missing",
}
# Only a stack has these.
OF_A_STACK = {
    "remaining_energy",
    "voltage_status",
    "current_status",
    "temperature_status",
    "error_code",
}
# A single board reports these, a stack or a bank does not.
OF_ONE_BOARD = {
    "ambient_temp",
    "mos_temp",
    "charging_enabled",
    "discharging_enabled",
    "balancing",
    "balancing_cells",
}
NOT_OF_A_STACK = OF_ONE_BOARD | {
    "soc",
    "soh",
    "remaining_capacity",
    "full_capacity",
    "time_to_full",
    "time_to_empty",
}
NOT_OF_A_BANK = OF_ONE_BOARD | {
    "read_duration",
    "cycle_count",
}
# Where control is allowed.
SWITCHES = {"charging_switch", "discharging_switch"}
SINGLE = {key for key in ENTITIES if "_N" not in key}
# The numbers of cells and temperature sensors of a simulated Daren pack.
CELLS, SENSORS = 16, 4
PACK = (
    SINGLE - OF_A_BANK - OF_A_STACK - SWITCHES
    | {f"cell_{n}_voltage" for n in range(1, CELLS + 1)}
    | {f"temp_{n}" for n in range(1, SENSORS + 1)}
)
BANK = SINGLE - NOT_OF_A_BANK - OF_A_STACK - SWITCHES
# The state of the program, which is known while the battery is silent.
OF_THE_CONNECTION = {"connection", "read", "read_errors", "readings_rejected"}
# Without a state until something happens: a press, an alarm, a steady current.
INTERMITTENT = {"read", "alarm", "time_to_full", "time_to_empty"}


def stack(modules):
    """The keys of a stack, with fifteen cells per module."""
    cell = ("voltage", "temp", "voltage_status", "temp_status")
    module = ("serial_number", "min_cell_voltage", "max_cell_voltage", "cell_voltage_diff")
    return (
        SINGLE - OF_A_BANK - NOT_OF_A_STACK - SWITCHES
        | {f"cell_{n}_{word}" for n in range(1, 15 * modules + 1) for word in cell}
        | {f"module_{n}_{word}" for n in range(1, modules + 1) for word in module}
    )


def profile(values):
    """The keys of a battery that reports these values."""
    reported = OF_ONE_BOARD | {"soh", "design_capacity", "cycle_count"}
    return SINGLE - OF_A_BANK - OF_A_STACK - SWITCHES - reported | set(values)


def row(key):
    """The key of the row in ENTITIES, or None."""
    if key in ENTITIES:
        return key
    for pattern, family in (
        (r"cell_\d+_voltage", "cell_N_voltage"),
        (r"temp_\d+", "temp_N"),
        (r"alarm_\w+", "alarm_N"),
        (r"module_\d+_(\w+)", r"module_N_\1"),
    ):
        if found := re.fullmatch(pattern, key):
            return found.expand(family)
    return None


def set_faults(keys, wanted):
    """Keys that are missing or unexpected."""
    faults = [f"{key} has no entity" for key in sorted(wanted - keys)]
    extra = {key for key in keys - wanted if row(key) != "alarm_N"}
    faults += [f"{key} has an unexpected entity" for key in sorted(extra)]
    if wanted is PACK and not any(row(key) == "alarm_N" for key in keys):
        faults.append("no alarm has an entity")
    return faults


def faults(key, entity, enabled_by_hand=False):
    """The fields in which an entity differs from its row."""
    wanted = dict(zip(FIELDS, ENTITIES[row(key)], strict=True))
    if enabled_by_hand:
        wanted["enabled"] = True
    elif not wanted["enabled"]:
        # A disabled entity has no state, so it has no unit and no digits either.
        wanted["unit"] = wanted["precision"] = None
    return [
        f"{key}: {field} is {entity[field]!r} instead of {wanted[field]!r}"
        for field in FIELDS
        if entity[field] != wanted[field]
    ]
