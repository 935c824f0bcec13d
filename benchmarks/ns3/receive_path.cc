/*
 * A one-core Linux receive path as an ns-3 program: a benchmark peer.
 *
 * One event per packet arrival and one event per piece of CPU work, on ns-3's
 * default simulator and scheduler, with picosecond time. Build it with
 * build.sh.
 *
 *   receive_path --mpps X --seconds S [--seed N]
 *
 * prints one JSON line. cpu_seconds is the CPU time of Simulator::Run alone.
 * ns-3's global values work too, in its own notation, for example
 * --SchedulerType=ns3::HeapScheduler.
 *
 * The model:
 *
 * - NIC: a descriptor ring with a packet buffer in front of it and one
 *   interrupt vector, which masks itself when it fires and fires at most once
 *   per THROTTLE.
 * - Core: device interrupt, then a softirq run of rounds of NAPI polls. After
 *   MAX_ROUNDS rounds the rest of the run is done by ksoftirqd.
 * - Timer tick: interrupts a busy core, and makes the next round longer by the
 *   timer softirq. On an idle core it does nothing. If it comes during a
 *   device interrupt, it waits for the end of that.
 * - If the vector fires at the instant when napi_complete unmasks it, the
 *   softirq run goes on after the device interrupt, with its count of rounds.
 */

#include "ns3/core-module.h"

#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <time.h>
#include <vector>

using namespace ns3;

namespace
{

constexpr uint32_t FRAME_BYTES = 64;
constexpr uint32_t RING_SLOTS = 511; // 512 descriptors, one never used
constexpr uint32_t BUFFER_BYTES = 458752;
constexpr uint32_t REFILL_BATCH = 16;
constexpr uint32_t POLL_WEIGHT = 64;
constexpr uint32_t BUDGET = 300;
constexpr uint32_t MAX_ROUNDS = 10;

/** A received frame. */
struct Frame
{
    int64_t arrival; //!< Arrival time in time steps (ps)
    uint32_t bytes;  //!< Size
};

/** Histogram with 128 bins an octave. */
class Histogram
{
  public:
    void Add(uint64_t value)
    {
        ++m_bins[Bin(value)];
    }

  private:
    static constexpr uint32_t SUB_BITS = 7;

    static uint32_t Bin(uint64_t value)
    {
        if (value < (1U << SUB_BITS))
        {
            return value;
        }
        const uint32_t shift = 63 - __builtin_clzll(value) - SUB_BITS;
        return (shift << SUB_BITS) + (value >> shift);
    }

    std::vector<uint64_t> m_bins = std::vector<uint64_t>((65 - SUB_BITS) << SUB_BITS);
};

/** The NIC and the core that serves it. */
class ReceivePath
{
  public:
    explicit ReceivePath(double mpps);

    void Start();

    uint64_t m_offered{0};    //!< Frames that arrived
    uint64_t m_captured{0};   //!< Frames handled by the core
    uint64_t m_missed{0};     //!< Frames for which the NIC had no room
    uint64_t m_interrupts{0}; //!< Device interrupts
    uint64_t m_polls{0};      //!< Poll calls
    Histogram m_latency;      //!< From arrival to capture, in ps

  private:
    using Handler = void (ReceivePath::*)();

    /** What the core is doing. */
    enum class Core
    {
        IDLE,
        DEVICE_INTERRUPT,
        SOFTIRQ,
        TICK
    };

    // Traffic and NIC
    void ScheduleArrival();
    void Arrival();
    void PutInRing(const Frame& frame);
    void GiveBack();
    void CheckVector();
    void Fire();

    // Core
    void StartPiece(const Time& cost, Handler done);
    void DeviceInterruptDone();
    void BeginRound();
    void KsoftirqdWoken();
    void KsoftirqdRunning();
    void BeginPoll();
    void PollStep();
    void FrameDone();
    void NapiCompleteDone();
    void Tick();
    void InterruptByTick(const Time& left);
    void TickDone();

    // Times and costs
    const Time THROTTLE = MicroSeconds(50);
    const Time TICK_PERIOD = MilliSeconds(1);
    const Time DEVICE_INTERRUPT = NanoSeconds(880);
    const Time ROUND = NanoSeconds(66);
    const Time POLL_CALL = NanoSeconds(88);
    const Time PER_FRAME = NanoSeconds(636);
    const Time NAPI_COMPLETE = NanoSeconds(220);
    const Time WAKE_UP = NanoSeconds(530);
    const Time CONTEXT_SWITCH = NanoSeconds(1400);
    const Time TICK = NanoSeconds(1100);
    const Time TIMER_SOFTIRQ = NanoSeconds(110);

    Ptr<ExponentialRandomVariable> m_gap; //!< Between arrivals, in ps

    // NIC
    std::vector<Frame> m_ring = std::vector<Frame>(RING_SLOTS + 1);
    uint32_t m_ringHead{0};            //!< Index of the oldest frame
    uint32_t m_ringFrames{0};          //!< Descriptors with a frame
    uint32_t m_ringFree{RING_SLOTS};   //!< Descriptors that the NIC can fill
    uint32_t m_toGiveBack{0};          //!< Descriptors still with the driver
    std::deque<Frame> m_buffer;        //!< Packet buffer
    uint32_t m_bufferBytes{0};         //!< Bytes in the packet buffer
    bool m_masked{false};              //!< Is the vector masked?
    Time m_allowedAt;                  //!< Not to fire before this
    EventId m_vectorTimer;             //!< To fire at m_allowedAt

    // Core
    Core m_core{Core::IDLE};
    EventId m_piece;           //!< End of the current softirq piece
    Handler m_pieceDone{};     //!< What follows it
    Time m_pieceLeft;          //!< The rest of a piece interrupted by a tick
    bool m_tickWaits{false};   //!< Did a tick come in a device interrupt?
    Time m_timerSoftirq;       //!< To be added to the next round
    bool m_inRun{false};       //!< Is a softirq run under way?
    bool m_ksoftirqd{false};   //!< Is it in ksoftirqd?
    uint32_t m_rounds{0};      //!< Rounds begun in this run
    uint32_t m_budgetUsed{0};  //!< In this round
    uint32_t m_framesDone{0};  //!< In this poll
    Frame m_frame{};           //!< The frame that the core handles
};

ReceivePath::ReceivePath(double mpps)
    : m_gap(CreateObject<ExponentialRandomVariable>())
{
    m_gap->SetAttribute("Mean", DoubleValue(1e6 / mpps));
}

void
ReceivePath::Start()
{
    ScheduleArrival();
    Simulator::Schedule(TICK_PERIOD, &ReceivePath::Tick, this);
}

void
ReceivePath::ScheduleArrival()
{
    const auto gap = static_cast<uint64_t>(m_gap->GetValue() + 0.5);
    Simulator::Schedule(PicoSeconds(gap), &ReceivePath::Arrival, this);
}

void
ReceivePath::Arrival()
{
    ScheduleArrival();
    ++m_offered;
    const Frame frame{Simulator::Now().GetTimeStep(), FRAME_BYTES};
    if (m_buffer.empty() && m_ringFree > 0)
    {
        PutInRing(frame);
        CheckVector();
    }
    else if (m_bufferBytes + frame.bytes <= BUFFER_BYTES)
    {
        m_buffer.push_back(frame);
        m_bufferBytes += frame.bytes;
    }
    else
    {
        ++m_missed;
    }
}

void
ReceivePath::PutInRing(const Frame& frame)
{
    m_ring[(m_ringHead + m_ringFrames) % m_ring.size()] = frame;
    ++m_ringFrames;
    --m_ringFree;
}

void
ReceivePath::GiveBack()
{
    // Only polls give descriptors back, and the vector is masked during them:
    // there is nothing to fire here.
    m_ringFree += m_toGiveBack;
    m_toGiveBack = 0;
    while (m_ringFree > 0 && !m_buffer.empty())
    {
        PutInRing(m_buffer.front());
        m_bufferBytes -= m_buffer.front().bytes;
        m_buffer.pop_front();
    }
}

void
ReceivePath::CheckVector()
{
    if (m_masked || m_ringFrames == 0 || m_vectorTimer.IsRunning())
    {
        return;
    }
    const Time now = Simulator::Now();
    if (now >= m_allowedAt)
    {
        Fire();
    }
    else
    {
        m_vectorTimer = Simulator::Schedule(m_allowedAt - now, &ReceivePath::Fire, this);
    }
}

void
ReceivePath::Fire()
{
    ++m_interrupts;
    m_masked = true;
    m_allowedAt = Simulator::Now() + THROTTLE;
    m_core = Core::DEVICE_INTERRUPT;
    Simulator::Schedule(DEVICE_INTERRUPT, &ReceivePath::DeviceInterruptDone, this);
}

void
ReceivePath::StartPiece(const Time& cost, Handler done)
{
    m_core = Core::SOFTIRQ;
    m_pieceDone = done;
    m_piece = Simulator::Schedule(cost, done, this);
}

void
ReceivePath::DeviceInterruptDone()
{
    if (!m_inRun)
    {
        m_inRun = true;
        m_ksoftirqd = false;
        m_rounds = 0;
    }
    if (m_tickWaits)
    {
        m_tickWaits = false;
        m_pieceDone = &ReceivePath::BeginRound;
        InterruptByTick(Time(0));
        return;
    }
    BeginRound();
}

void
ReceivePath::BeginRound()
{
    if (!m_ksoftirqd && m_rounds == MAX_ROUNDS)
    {
        StartPiece(WAKE_UP, &ReceivePath::KsoftirqdWoken);
        return;
    }
    ++m_rounds;
    m_budgetUsed = 0;
    const Time cost = ROUND + m_timerSoftirq;
    m_timerSoftirq = Time(0);
    StartPiece(cost, &ReceivePath::BeginPoll);
}

void
ReceivePath::KsoftirqdWoken()
{
    StartPiece(CONTEXT_SWITCH, &ReceivePath::KsoftirqdRunning);
}

void
ReceivePath::KsoftirqdRunning()
{
    m_ksoftirqd = true;
    BeginRound();
}

void
ReceivePath::BeginPoll()
{
    ++m_polls;
    m_framesDone = 0;
    StartPiece(POLL_CALL, &ReceivePath::PollStep);
}

void
ReceivePath::PollStep()
{
    if (m_framesDone == POLL_WEIGHT)
    {
        GiveBack();
        m_budgetUsed += POLL_WEIGHT;
        if (m_budgetUsed >= BUDGET)
        {
            BeginRound();
        }
        else
        {
            BeginPoll();
        }
    }
    else if (m_ringFrames == 0)
    {
        GiveBack();
        StartPiece(NAPI_COMPLETE, &ReceivePath::NapiCompleteDone);
    }
    else
    {
        m_frame = m_ring[m_ringHead];
        m_ringHead = (m_ringHead + 1) % m_ring.size();
        --m_ringFrames;
        StartPiece(PER_FRAME, &ReceivePath::FrameDone);
    }
}

void
ReceivePath::FrameDone()
{
    ++m_captured;
    m_latency.Add(Simulator::Now().GetTimeStep() - m_frame.arrival);
    ++m_framesDone;
    if (++m_toGiveBack == REFILL_BATCH)
    {
        GiveBack();
    }
    PollStep();
}

void
ReceivePath::NapiCompleteDone()
{
    m_core = Core::IDLE;
    m_masked = false;
    CheckVector();
    // Fired at once: the run goes on after the device interrupt.
    m_inRun = m_core != Core::IDLE;
}

void
ReceivePath::Tick()
{
    Simulator::Schedule(TICK_PERIOD, &ReceivePath::Tick, this);
    if (m_core == Core::IDLE)
    {
        return;
    }
    m_timerSoftirq += TIMER_SOFTIRQ;
    if (m_core == Core::DEVICE_INTERRUPT)
    {
        m_tickWaits = true;
        return;
    }
    const Time left = Simulator::GetDelayLeft(m_piece);
    m_piece.Cancel();
    InterruptByTick(left);
}

void
ReceivePath::InterruptByTick(const Time& left)
{
    m_core = Core::TICK;
    m_pieceLeft = left;
    Simulator::Schedule(TICK, &ReceivePath::TickDone, this);
}

void
ReceivePath::TickDone()
{
    StartPiece(m_pieceLeft, m_pieceDone);
}

double
CpuSeconds()
{
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/** ns3::CommandLine knows only --name=value: turn "--name value" into that. */
std::vector<std::string>
JoinArguments(int argc, char* argv[])
{
    std::vector<std::string> args(argv, argv + argc);
    for (std::size_t i = 1; i + 1 < args.size(); ++i)
    {
        if (args[i] == "--mpps" || args[i] == "--seconds" || args[i] == "--seed")
        {
            args[i] += "=" + args[i + 1];
            args.erase(args.begin() + i + 1);
        }
    }
    return args;
}

} // namespace

int
main(int argc, char* argv[])
{
    Time::SetResolution(Time::PS);

    double mpps = 0;
    double seconds = 0;
    uint32_t seed = 1;
    CommandLine cmd(__FILE__);
    cmd.AddValue("mpps", "Offered load in million packets per second", mpps);
    cmd.AddValue("seconds", "Simulated seconds", seconds);
    cmd.AddValue("seed", "Number of the random stream", seed);
    cmd.Parse(JoinArguments(argc, argv));
    if (!(mpps > 0) || !(seconds > 0))
    {
        std::fprintf(stderr, "usage: receive_path --mpps X --seconds S [--seed N]\n");
        return 2;
    }

    // ns-3's own advice: keep its seed, and take another run for another stream.
    RngSeedManager::SetRun(seed);

    ReceivePath path(mpps);
    path.Start();
    Simulator::Stop(Seconds(seconds));

    const double begin = CpuSeconds();
    Simulator::Run();
    const double cpuSeconds = CpuSeconds() - begin;
    Simulator::Destroy();

    std::printf("{\"offered\":%llu,\"captured\":%llu,\"missed\":%llu,\"interrupts\":%llu,"
                "\"polls\":%llu,\"cpu_seconds\":%.6f}\n",
                static_cast<unsigned long long>(path.m_offered),
                static_cast<unsigned long long>(path.m_captured),
                static_cast<unsigned long long>(path.m_missed),
                static_cast<unsigned long long>(path.m_interrupts),
                static_cast<unsigned long long>(path.m_polls),
                cpuSeconds);
    return 0;
}
