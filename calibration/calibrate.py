"""From a record to what it says about the model: costs of a host, or of an emulated guest."""

from __future__ import annotations

from pathlib import Path

from calibration.fit import Fit, fit_record
from calibration.guest_fit import GuestFit, fit_guest, guest_windows
from calibration.lab_model import observations
from calibration.record import read_record
from simnet.errors import UserError


def calibrate(folder: Path) -> Fit | GuestFit:
    """Fit to the record in a folder.

    Raises
    ------
    UserError
        If it is no record, or has no window of a kind that the model has.
    """
    record = read_record(folder)
    if observations(record):
        return fit_record(record)
    if windows := guest_windows(record):
        return fit_guest(windows)
    raise UserError(f"{folder}: no window that counts is of a method that the model has")
