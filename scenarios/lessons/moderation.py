"""Interrupt moderation and NAPI

A NIC may interrupt every 50 µs. Offer the core twice what it can receive: how many interrupts a second does it take?
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(app_title="Interrupt moderation and NAPI")

with app.setup:
    import marimo as mo

    import simnet
    from scenarios.lessons import _charts as charts
    from scenarios.lessons import _shared as shared
    from simnet.report.text import number

    SCENARIO = "paper/bare-metal"
    CPU = 7
    POISSON = {"traffic.source": "poisson"}
    LOADS = (10, 50, 100, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 2000)
    ALL_LOADS = (10, 20, 50, 100, 150, 200, 300, 400, 600, 800, 1000, 1200, 1400, 1600, 2000, 3000)
    STEP_US = 10
    FLOOD_KPPS = 3000
    EXERCISE_KPPS = 200
    MOST_P99_US = 90


@app.function
def receive(kpps: float, moderation: str, interval_us: float = 50, sleep: bool = True) -> simnet.Result:
    """The model's answer: `kpps` thousand frames of 64 B a second, one core that receives and counts them in its softirq."""
    nic = {"host.nic.moderation": moderation, "host.nic.moderation_us": interval_us}
    return shared.ask(SCENARIO, {**POISSON, **nic, "traffic.offered_kpps": kpps, "host.c_states": sleep})


@app.function
def check(interval_us: int) -> tuple[bool, str]:
    """Is this the longest interval that keeps the latency wanted? Says why, from the model's counters."""
    result = receive(EXERCISE_KPPS, "fixed", interval_us)
    p99 = result.latency_us["p99"] or 0.0
    says = (
        f"With {interval_us} µs the 99th percentile is {p99:.0f} µs, at {number(result.rates['interrupts'])} interrupts a second, "
        f"{shared.share(result, CPU, 'hardirq'):.1%} of the core."
    )
    if p99 > MOST_P99_US:
        return (
            False,
            f"{says} That is above {MOST_P99_US} µs: a frame that comes just after a poll has emptied the ring waits nearly a whole interval for the next.",
        )
    longer = receive(EXERCISE_KPPS, "fixed", interval_us + STEP_US)
    longer_p99 = longer.latency_us["p99"] or 0.0
    if longer_p99 <= MOST_P99_US:
        return False, (
            f"{says} That is below {MOST_P99_US} µs, but so are {interval_us + STEP_US} µs ({longer_p99:.0f} µs), for {number(longer.rates['interrupts'])} interrupts a second."
        )
    awake = receive(EXERCISE_KPPS, "fixed", interval_us + STEP_US, sleep=False).latency_us["p99"] or 0.0
    return True, (
        f"{says} {interval_us + STEP_US} µs would make it {longer_p99:.0f} µs. That step is so large because the core, now idle for longer than 80 µs at a time, "
        f"falls into C3, and waking takes 20 µs (`nehalem_cstates` of intel_idle); on a host that does not sleep it would be {awake:.0f} µs."
    )


@app.cell(hide_code=True)
def _():
    mo.md(f"""
    # Interrupt moderation and NAPI

    An Intel 82599 receives 64-byte frames, and one core counts them in its softirq. The core can receive about 1570 kpps. The NIC's vector is
    *moderated*: between two interrupts lie at least 50 µs (its EITR register), so that there can be at most 20 000 interrupts a second.

    {shared.sources(SCENARIO)} Frames arrive at random (Poisson).

    **Now {FLOOD_KPPS} kpps are offered, twice what the core can receive. How many interrupts a second does it take?**
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
            f"about {FLOOD_KPPS // 1000} million: one for each frame",
            "about 25 000: one for each poll of 64 frames",
            "20 000: as many as moderation lets through",
            "none",
        ],
        keep,
    )
    prediction
    return


@app.cell(hide_code=True)
def _():
    with shared.getting_ready():
        flooded = receive(FLOOD_KPPS, "fixed")
    return (flooded,)


@app.cell(hide_code=True)
def _(first, flooded):
    mo.stop(first() is None, mo.md("*Predict first; then the model answers.*"))
    shared.revealed(
        first(),
        "none",
        f"**{number(flooded.rates['interrupts'])} interrupts a second**, while {number(flooded.captured.kpps.mean)} kpps are "
        f"received in {number(flooded.rates['polls'])} polls. Under overload nothing interrupts: **polling** has taken over, and moderation has no say.",
    )
    return


@app.cell(hide_code=True)
def _(first):
    mo.stop(first() is None)
    settings = {"no moderation": ("fixed", 0), "50 µs": ("fixed", 50), "adaptive": ("adaptive", 50)}
    curve = [
        (name, LOADS, [receive(kpps, *setting).rates["interrupts"] / 1000 for kpps in LOADS])
        for name, setting in mo.status.progress_bar(list(settings.items()), title="Computing the curves", remove_on_exit=True)
    ]
    return (curve,)


@app.cell(hide_code=True)
def _(first):
    mo.stop(first() is None)
    load = mo.ui.slider(steps=ALL_LOADS, value=200, label="offered, kpps", show_value=True, debounce=True, full_width=True)
    interval = mo.ui.slider(
        0, 500, step=STEP_US, value=50, label="fixed interval, µs", show_value=True, debounce=True, full_width=True
    )
    moderation = mo.ui.radio(["fixed", "adaptive"], value="fixed", label="moderation", inline=True)
    mo.vstack([mo.md("## Try it"), load, interval, moderation])
    return interval, load, moderation


@app.cell(hide_code=True)
def _(curve, interval, load, moderation):
    result = receive(load.value, moderation.value, interval.value)
    captured = 1000 * result.captured.kpps.mean
    mo.vstack(
        [
            mo.md(shared.headline(result)),
            mo.md(f"""
            | | |
            |:---|---:|
            | interrupts a second | {number(result.rates["interrupts"])} |
            | interrupts a packet | {result.rates["interrupts"] / captured:.4f} |
            | frames a poll | {captured / result.rates["polls"]:.1f} |
            | latency p50, µs | {result.latency_us["p50"]:.1f} |
            | latency p99, µs | {result.latency_us["p99"]:.1f} |
            """),
            mo.Html(shared.time_bars(result)),
            mo.Html(
                charts.curves(
                    curve,
                    (load.value, result.rates["interrupts"] / 1000),
                    ("offered (kpps)", "thousand interrupts a second"),
                    "interrupts a second against offered load, for three kinds of moderation",
                )
            ),
            mo.Html(charts.histogram(result.batches.tolist(), ("frames a poll", "% of polls"), "how many frames a poll takes")),
            mo.Html(shared.packets_table(result)),
        ]
    )
    return (result,)


@app.cell(hide_code=True)
def _(first, flooded):
    mo.stop(first() is None)
    none, fixed, busy = receive(200, "fixed", 0), receive(200, "fixed", 50), receive(1200, "fixed", 0)
    slow, fast = receive(200, "adaptive"), receive(800, "adaptive")
    mo.md(f"""
    ## What happened

    **A vector fires and masks itself** (EIAM). Its handler, `ixgbe_msix_clean_rings`, calls `napi_schedule`; `irq_exit` runs `__do_softirq`, `net_rx_action` and
    `ixgbe_poll`, which takes up to 64 frames from the ring. If it finds the ring empty before the 64th, it calls `napi_complete` and unmasks the vector; the NIC may
    fire again when the interval has passed since it last did.

    **At low load the interval buys time with latency.** At 200 kpps without moderation there are {number(none.rates["interrupts"])} interrupts a second; they take
    {shared.share(none, CPU, "hardirq"):.1%} of the core, and half of the packets are counted within {none.latency_us["p50"]:.1f} µs. With 50 µs there are
    {number(fixed.rates["interrupts"])}, for {shared.share(fixed, CPU, "hardirq"):.1%} of the core, and the median is {fixed.latency_us["p50"]:.0f} µs: half an
    interval, because a frame comes at any time of it.

    **NAPI moderates itself.** Look at *no moderation*: with more load the interrupts do not become more for ever. While the core polls, the vector is masked; what arrives
    meanwhile is found by the same poll. At 1200 kpps there are {number(busy.rates["interrupts"])} interrupts a second, {busy.rates["interrupts"] / (1000 * busy.captured.kpps.mean):.2f} a packet.

    **Under overload polls never come to an end.** Every poll finds 64 frames and stays on the poll list, nobody calls `napi_complete`, and the vector stays masked:
    {number(flooded.rates["interrupts"])} interrupts a second, whatever EITR says. The softirq is now kept up by ksoftirqd ({shared.share(flooded, CPU, "ksoftirqd"):.0%} of the
    core), and what is too much is lost in the NIC's buffer (`rx_missed_errors`) before it has cost anything.

    **The adaptive setting** (`ixgbe_update_itr`, at the end of a poll that completes) compares bytes with the interval that is programmed: few, and it goes towards 100 000
    interrupts a second; many, and it goes towards 20 000, then 8 000, a tenth of the way at a time. So it gives {number(slow.rates["interrupts"])} at
    200 kpps, where it favours latency (p50 {slow.latency_us["p50"]:.1f} µs), and {number(fast.rates["interrupts"])} at 800 kpps, where it favours the core
    (p50 {fast.latency_us["p50"]:.0f} µs). Under overload no poll completes, and it is never even asked.
    """)
    return


@app.cell(hide_code=True)
def _(first):
    mo.stop(first() is None)
    answer = mo.ui.slider(0, 250, step=STEP_US, value=50, label="interval, µs", show_value=True, full_width=True).form(
        submit_button_label="Check"
    )
    mo.vstack(
        [
            mo.md(f"""
            ## Exercise

            At {EXERCISE_KPPS} kpps, 99 % of the packets must be counted within {MOST_P99_US} µs of their arrival. **Choose the fixed interval that meets this with the fewest interrupts.**
            """),
            answer,
        ]
    )
    return (answer,)


@app.cell(hide_code=True)
def _(answer):
    mo.stop(answer.value is None)
    shared.marked(check(answer.value))
    return


if __name__ == "__main__":
    app.run()
