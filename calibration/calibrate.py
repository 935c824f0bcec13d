"""From records to what they say about the model: costs of a host behind the lab's wiring or a link, or of an emulated guest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration import lab_model, link_model
from calibration.fit import Fit, fit
from calibration.guest_fit import GuestFit, fit_guest, guest_windows
from calibration.link_host import host_of
from calibration.record import Record, read_record, refuse_unlike
from simnet.errors import UserError


def calibrate(*folders: Path) -> Fit | GuestFit:
    """Fit to the record in a folder, or to several of one host together.

    Raises
    ------
    UserError
        If one is no record, the hosts are unlike, no window is of a kind that the model has, or facts are missing without which a link has no model.
    """
    records = [read_record(folder) for folder in folders]
    refuse_unlike(records)
    try:
        found = _of_links(records) if any(map(link_model.is_of_a_link, records)) else _of_the_lab(records)
    except UserError as error:
        raise UserError(f"{', '.join(map(str, folders))}: {error}") from None
    return found


def _of_links(records: Sequence[Record]) -> Fit:
    if not all(map(link_model.is_of_a_link, records)):
        raise UserError("records of the lab and of a link cannot be fitted together")
    found = [o for record in records for o in link_model.observations(record)] or _nothing()
    hosts = [host_of(record) for record in records]
    if any(host != hosts[0] for host in hosts):
        raise UserError("the port was set differently in these records, so that one model cannot be all of them")
    return replace(fit(found, link_model.WIRING), source=_names(records), model=hosts[0])


def _of_the_lab(records: Sequence[Record]) -> Fit | GuestFit:
    if found := [o for record in records for o in lab_model.observations(record)]:
        return replace(fit(found, lab_model.WIRING), source=_names(records))
    if len(records) > 1:
        raise UserError("a guest is fitted to one record")
    return fit_guest(guest_windows(records[0]) or _nothing())


def _nothing() -> list[Any]:
    """Refuse records without a window that can be fitted.

    Raises
    ------
    UserError
        Always.
    """
    raise UserError("no window that counts is of a method that the model has")


def _names(records: Sequence[Record]) -> str:
    return "record " + " and ".join(str(record.about["sha256"])[:12] for record in records)
