"""What pinning does to a guest

A guest captures 81 kpps. Its virtual processor moves to the core that takes the NIC's interrupts: what is left?
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="What pinning does to a guest")

with app.setup:
    from collections.abc import Sequence

    import marimo as mo

    import simnet
    from scenarios.lessons import _shared as shared
    from simnet.report.text import number

    SCENARIO = "paper/vm"
    BUILT_IN = simnet.load(SCENARIO).model_dump()
    PINS = BUILT_IN["guest"]["vcpus"]
    NIC, IO, VCPU = BUILT_IN["host"]["nic"]["irq_cpus"], BUILT_IN["guest"]["io_cpus"], PINS[BUILT_IN["guest"]["irq_vcpu"]]
    """The built-in placement: the NIC's interrupts, QEMU's I/O thread, the vCPU that captures."""
    HOST_CPUS = range(8)
    OFFERED_KPPS = 4400
    LOADS = (20, 50, 80, 100, 150, 200, 300, 500, 1000, 2000, OFFERED_KPPS)
    CLOSE = 0.97


@app.function
def place(nic: int, io: int, vcpu: int, kpps: float = OFFERED_KPPS) -> simnet.Result:
    """The model's answer, with the NIC's interrupts, QEMU's I/O thread and the vCPU that captures on these cores."""
    number = PINS.index(vcpu)
    pins = {"host.nic.irq_cpus": nic, "guest.io_cpus": io, "guest.irq_vcpu": number, "capture.cpu": number}
    return shared.ask(SCENARIO, {**pins, "traffic.offered_kpps": kpps})


@app.function
def together(nic: int, io: int, vcpu: int) -> str:
    """Who shares a core, in words."""
    if nic == io == vcpu:
        return "All three share a core."
    if nic == vcpu:
        return (
            "The vCPU shares its core with the host's softirqs. They go first, and those that `irq_exit` runs inline after a tick or an exit use up the turn "
            "that CFS gives to the vCPU: the guest sees stolen time."
        )
    if nic == io:
        return "QEMU's I/O thread shares its core with the host's softirqs. They go first, so nobody empties the tap; its queue of 500 and the queueing discipline behind it run over."
    if io == vcpu:
        return "The I/O thread and the vCPU take turns on a core, two switches and an interrupt for nearly every packet; but the host's softirqs have a core to themselves."
    return "All three have cores of their own."


@app.function
def check(nic: int, io: int, vcpu: int) -> tuple[bool, str]:
    """Is this the best placement on two cores? Tries the others on the same cores."""
    cores = sorted({nic, io, vcpu})
    if len(cores) != 2:
        return False, f"You use {len(cores)} core{'s' if len(cores) > 1 else ''}: {', '.join(f'cpu{c}' for c in cores)}. Use two."
    rates = {(n, i): place(n, i, vcpu).captured.kpps.mean for n in cores for i in cores}
    best = max(rates, key=lambda placement: rates[placement])
    says = f"{together(nic, io, vcpu)} The guest captures {number(rates[nic, io])} kpps."
    if rates[nic, io] < CLOSE * rates[best]:
        return False, f"{says} On the same two cores, {number(rates[best])} kpps are possible."
    others = ", ".join(number(rate) for placement, rate in rates.items() if placement != best)
    return True, (
        f"{says} The other placements on these cores give {others} kpps. What must not be shared is the core that *cannot say no*: under overload the host's softirqs take all of it, "
        "whatever else is there."
    )


@app.cell(hide_code=True)
def _():
    mo.md(f"""
    # What pinning does to a guest

    A KVM guest captures what a 10 Gbit/s port receives: {OFFERED_KPPS} kpps of 64-byte frames. On the way lie three pieces of work, each of which
    somebody pinned to a core of the host (two sockets: even and odd CPU numbers):

    - **the host's softirqs**, on the core that takes the NIC's interrupts (cpu{NIC}): driver, bridge, tap;
    - **QEMU's I/O thread** (cpu{IO}): reads the tap, copies into the virtqueue, interrupts the guest;
    - **the vCPU** that captures (cpu{VCPU}): a task of the host that is a whole core to the guest.

    {shared.sources(SCENARIO)}

    **Now the vCPU is pinned to cpu{NIC}, with the NIC's interrupts. What happens to the capture rate?**
    """)
    return


@app.cell(hide_code=True)
def _():
    first, keep = mo.state(None)
    return first, keep


@app.cell(hide_code=True)
def _(keep):
    prediction = shared.prediction_form(
        [
            "it rises: the packets are already on the right core",
            "it stays: the I/O thread limits it, not the vCPU",
            "it halves: the two share the core",
            "less than a third of it is left",
        ],
        keep,
    )
    prediction
    return


@app.cell(hide_code=True)
def _():
    with shared.getting_ready():
        apart, shared_core = place(NIC, IO, VCPU), place(NIC, IO, NIC)
    return apart, shared_core


@app.cell(hide_code=True)
def _(apart, first, shared_core):
    mo.stop(first() is None, mo.md("*Predict first; then the model answers.*"))
    shared.revealed(
        first(),
        "less than a third of it is left",
        f"**{number(shared_core.captured.kpps.mean)} kpps** where it was {number(apart.captured.kpps.mean)} kpps. "
        "The authors of the paper tried this placement first, found it poor, and changed it.",
    )
    return


@app.cell(hide_code=True)
def _(first):
    mo.stop(first() is None)

    def cpus(numbers: Sequence[int]) -> dict[str, int]:
        return {f"cpu{cpu}, socket {cpu % 2}": cpu for cpu in numbers}

    def names(value: int) -> str:
        return next(iter(cpus([value])))

    nic = mo.ui.dropdown(cpus(HOST_CPUS), value=names(NIC), label="the NIC's interrupts")
    io = mo.ui.dropdown(cpus(HOST_CPUS), value=names(IO), label="QEMU's I/O thread")
    vcpu = mo.ui.dropdown(cpus(PINS), value=names(NIC), label="the vCPU that captures")
    load = mo.ui.slider(steps=LOADS, value=OFFERED_KPPS, label="offered, kpps", show_value=True, debounce=True, full_width=True)
    mo.vstack([mo.md("## Try it"), nic, io, vcpu, load])
    return cpus, io, load, names, nic, vcpu


@app.cell(hide_code=True)
def _(io, load, nic, vcpu):
    result = place(nic.value, io.value, vcpu.value, load.value)
    packets = 1000 * result.captured.kpps.mean
    exits = {reason: rate / packets for reason, rate in result.rates["exits"].items() if rate}
    mo.vstack(
        [
            mo.md(f"{shared.headline(result)} {together(nic.value, io.value, vcpu.value)}"),
            mo.Html(shared.time_bars(result)),
            mo.Html(shared.packets_table(result)),
            mo.md(
                "\n".join(
                    [
                        "| for each packet captured | |",
                        "|:---|---:|",
                        f"| interrupts of the guest | {result.rates['guest_interrupts'] / packets:.3f} |",
                        *[f"| exits: {reason.replace('_', ' ')} | {rate:.3f} |" for reason, rate in exits.items()],
                        f"| waits for QEMU's mutex | {result.rates['mutex_contended'] / packets:.3f} |",
                        f"| restarts of the stopped tap | {result.rates['tap_restarts'] / packets:.3f} |",
                    ]
                )
            ),
        ]
    )
    return (result,)


@app.cell(hide_code=True)
def _(apart, first, shared_core):
    mo.stop(first() is None)
    same_io, with_io, other_socket = place(NIC, NIC, VCPU), place(NIC, VCPU, VCPU), place(NIC, 2, VCPU)
    calm = [place(NIC, IO, vcpu, 50).captured.kpps.mean for vcpu in (VCPU, NIC)]
    busy = [place(NIC, IO, vcpu, 500) for vcpu in (VCPU, NIC)]
    stolen = [next(v.shares["stolen"] for v in result.vcpus if v.cpu == cpu) for result, cpu in ((apart, VCPU), (shared_core, NIC))]
    a_packet = [result.rates["guest_interrupts"] / (1000 * result.captured.kpps.mean) for result in (apart, with_io, *busy)]
    mo.md(f"""
    ## What happened

    **With cores of their own**, the I/O thread is what limits: its core is {shared.share(apart, IO):.0%} busy. For each packet it returns from select, reads the tap
    (`tun_do_read`), copies, and pushes into the virtqueue; {a_packet[0]:.2f} times a packet it raises an interrupt, and `kvm_vcpu_kick` or a wake-up brings the vCPU to
    take it. Most packets die long before, in the NIC's buffer, where they cost nothing.

    **The vCPU beside the softirqs:** of cpu{NIC}, {shared.share(shared_core, NIC, "ksoftirqd"):.0%} is ksoftirqd and {shared.share(shared_core, NIC, "softirq"):.0%} softirqs
    that ran inline; the guest has {shared.share(shared_core, NIC, "guest"):.1%}. CFS gives the vCPU's thread turns like ksoftirqd's. But every interrupt while the guest runs is an exit, and on the
    way back `irq_exit` runs what is pending, up to ten rounds of `net_rx_action`, at the cost of the vCPU's turn. The guest sees {stolen[1]:.0%} stolen time. On a core of its own it saw
    {stolen[0]:.0%}, but those were exits and QEMU at work for it; now it waits for its turn. It does not refill the virtqueue, the I/O thread waits, and the tap's queue overflows.

    **The I/O thread beside the softirqs** is worse: {number(same_io.captured.kpps.mean)} kpps. **The I/O thread beside the vCPU** is better:
    {number(with_io.captured.kpps.mean)} kpps; they only compete with each other, but they cannot overlap any more, so that there are no batches: {a_packet[1]:.2f} interrupts a packet.

    **The other socket hardly matters here**: with the I/O thread on cpu2 it is {number(other_socket.captured.kpps.mean)} kpps. Which *work* shares a core decides; which *cache* it shares, little.

    **Pinning only matters under load.** At 50 kpps both placements capture all ({number(calm[0])} and {number(calm[1])} kpps). And in between there is a surprise: at 500 kpps the
    shared core captures {number(busy[1].captured.kpps.mean)} kpps, and separate ones {number(busy[0].captured.kpps.mean)}. The host's softirqs delay the vCPU, so that packets
    gather: {a_packet[3]:.2f} interrupts a packet instead of {a_packet[2]:.2f}, fewer exits, fewer waits for the mutex. A placement that is good at one load may be bad at another: ask for yours.

    *How far to trust this:* the shared core's rate depends strongly on what a packet costs the bridge, whose range is wide (13 to 32 kpps, `docs/limits.md`); that it is far below separate cores under overload does not.
    The surprise at 500 kpps is the model's; nobody has measured it.
    """)
    return


@app.cell(hide_code=True)
def _(cpus, first, names):
    mo.stop(first() is None)
    answer = (
        mo.md("""
        {nic}

        {io}

        {vcpu}
        """)
        .batch(
            nic=mo.ui.dropdown(cpus(HOST_CPUS), value=names(NIC), label="the NIC's interrupts"),
            io=mo.ui.dropdown(cpus(HOST_CPUS), value=names(IO), label="QEMU's I/O thread"),
            vcpu=mo.ui.dropdown(cpus(PINS), value=names(VCPU), label="the vCPU that captures"),
        )
        .form(submit_button_label="Check")
    )
    mo.vstack(
        [
            mo.md(f"""
            ## Exercise

            The host is short of cores: the three may use only **two** of them. {OFFERED_KPPS} kpps are offered. **Place them so that the guest captures most.**
            """),
            answer,
        ]
    )
    return (answer,)


@app.cell(hide_code=True)
def _(answer):
    mo.stop(answer.value is None)
    shared.marked(check(**answer.value))
    return


if __name__ == "__main__":
    app.run()
