"""What each piece of work costs on this machine, in ps: cycles, bytes and cache lines of the parameter set at its clock rate.

Filled by `system.wiring`; code holds no cost.
"""

from __future__ import annotations

from simnet.records import Record


class Costs(Record):
    """Costs of the kernel and the drivers. Those of one socket or monitor stand in its own record."""

    device_interrupt_ps: int
    timer_interrupt_ps: int
    reschedule_interrupt_ps: int
    do_softirq_ps: int
    timer_softirq_ps: int
    poll_ps: int
    napi_complete_ps: int
    receive_ps: int
    context_switch_ps: int
    wake_up_ps: int
    send_ipi_ps: int
    poll_system_call_ps: int
    net_tx_ps: int
    vm_exit_ps: int
