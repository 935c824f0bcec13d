"""From a record to what it says about the model: costs of a host behind the lab's wiring or a link, or of an emulated guest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from calibration import lab_model, link_model
from calibration.fit import LAB, Fit, fit
from calibration.guest_fit import GuestFit, fit_guest, guest_windows
from calibration.link_host import host_of
from calibration.observation import Modelled
from calibration.record import Record, read_record
from simnet.errors import UserError


def calibrate(folder: Path) -> Fit | GuestFit:
    """Fit to the record in a folder.

    Raises
    ------
    UserError
        If it is no record, has no window of a kind that the model has, or lacks facts without which a link has no model.
    """
    record = read_record(folder)
    try:
        found = _of_a_link(record) if link_model.is_of_a_link(record) else _of_the_lab(record)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    if found is None:
        raise UserError(f"{folder}: no window that counts is of a method that the model has")
    return found


def _of_a_link(record: Record) -> Fit | None:
    observations = link_model.observations(record)
    return _named(fit(observations, link_model.WIRING), record, host_of(record)) if observations else None


def _of_the_lab(record: Record) -> Fit | GuestFit | None:
    if observations := lab_model.observations(record):
        return _named(fit(observations, LAB), record)
    return fit_guest(windows) if (windows := guest_windows(record)) else None


def _named(found: Fit, record: Record, model: Modelled | None = None) -> Fit:
    return replace(found, source=f"record {record.about['sha256'][:12]}", model=model)
