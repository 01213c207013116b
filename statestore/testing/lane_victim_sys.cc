#include "statestore/testing/lane_victim_sys.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "statestore/lane_format.h"
#include "statestore/lane_journal.h"
#include "statestore/lane_sys.h"
#include "statestore/testing/lane_toy.h"

namespace holdfast::testing {
namespace {

using Stepping = LaneVictimSetup::Stepping;

constexpr int kGaveUp = 3;

volatile uint64_t traps_left = 0;

void OnTrap(int) {
  if (--traps_left == 0) kill(getpid(), SIGKILL);
}

// From here on single steps. The kernel clears the trap flag while the handler
// runs; a system call is one instruction and is never interrupted.
void StartStepping(const LaneVictimSetup& setup) {
  if (setup.stepping == Stepping::kTraced) {
    raise(SIGSTOP);
    return;
  }
#if defined(__x86_64__)
  constexpr uint64_t kTrapFlag = 0x100;
  traps_left = setup.trap_after;
  struct sigaction action {};
  action.sa_handler = OnTrap;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTRAP, &action, nullptr);
  __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | kTrapFlag);
#endif
}

// Counts numbered points; dies at one of them, or begins to step there.
class Points {
 public:
  explicit Points(const LaneVictimSetup& setup) : setup_(setup) {}
  void Reach() {
    ++reached_;
    if (reached_ == setup_.kill_at_point) kill(getpid(), SIGKILL);
    if (reached_ == setup_.step_from_point) StartStepping(setup_);
  }

 private:
  const LaneVictimSetup& setup_;
  uint64_t reached_ = 0;
};

LaneHeader& HeaderOf(absl::Span<uint8_t> section) {
  return *reinterpret_cast<LaneHeader*>(section.data());
}

// The real system calls with points around them, and the faults that concern
// them.
class VictimIo final : public LaneIo {
 public:
  VictimIo(const LaneVictimSetup& setup, Points& points)
      : socket_(setup.stream), setup_(setup), points_(points) {}

  absl::StatusOr<Peeked> Peek(absl::Span<uint8_t> into) override {
    return Around([&] { return socket_.Peek(into); });
  }
  absl::StatusOr<Peeked> PeekWithFds(absl::Span<uint8_t> into,
                                     std::vector<UniqueFd>& fds) override {
    return Around([&] { return socket_.PeekWithFds(into, fds); });
  }
  absl::StatusOr<int> PeekOffset() override {
    return Around([&] { return socket_.PeekOffset(); });
  }
  absl::Status SetPeekOffset(size_t offset) override {
    if (setup_.fault == LaneFault::kOffsetNotRestored) offset = 0;
    return Around([&] { return socket_.SetPeekOffset(offset); });
  }
  absl::Status WaitWritable() override {
    if (setup_.stepping != Stepping::kNone) {
      return absl::OkStatus();  // A tracer would wait too.
    }
    return Around([&] { return socket_.WaitWritable(); });
  }

  absl::StatusOr<Taken> Receive(LaneEntry& entry, LaneVector& vector,
                                absl::Span<uint8_t> into) override {
    if (setup_.fault == LaneFault::kUserStoresReceivedNoWitness) {
      for (LaneRxSet& set : HeaderOf(setup_.section).rx) set.witness = 0;
    } else if (setup_.fault != LaneFault::kUserStoresReceived) {
      return Around([&] { return socket_.Receive(entry, vector, into); });
    }
    LaneEntry elsewhere{};
    auto taken =
        Around([&] { return socket_.Receive(elsewhere, vector, into); });
    if (taken.ok() && taken->result == Result::kDone) {
      entry.length = elsewhere.length;
    }
    return taken;
  }

  absl::StatusOr<Result> Send(LaneEntry& entry, LaneVector& vector,
                              absl::Span<const uint8_t> bytes,
                              absl::Span<const int> fds) override {
    if (setup_.fault != LaneFault::kUserStoresSent) {
      return Around([&] { return socket_.Send(entry, vector, bytes, fds); });
    }
    LaneEntry elsewhere{};
    auto sent =
        Around([&] { return socket_.Send(elsewhere, vector, bytes, fds); });
    if (sent.ok() && *sent == Result::kDone) entry.length = elsewhere.length;
    return sent;
  }

 private:
  template <typename Call>
  std::invoke_result_t<Call> Around(Call call) {
    points_.Reach();
    auto result = call();
    points_.Reach();
    return result;
  }

  LaneSocket socket_;
  const LaneVictimSetup& setup_;
  Points& points_;
};

class VictimHandler final : public ToyHandler {
 public:
  VictimHandler(const LaneVictimSetup& setup, Points& points)
      : ToyHandler(setup.store, setup.gift), setup_(setup), points_(points) {}

  absl::Status Escrow(absl::Span<const uint8_t> message,
                      absl::Span<UniqueFd> fds) override {
    points_.Reach();
    if (setup_.fault == LaneFault::kEscrowAfterConsumption) {
      late_fds_.clear();
      for (UniqueFd& fd : fds) late_fds_.push_back(std::move(fd));
      return absl::OkStatus();
    }
    const absl::Status status = ToyHandler::Escrow(message, fds);
    points_.Reach();
    return status;
  }

  absl::StatusOr<Outcome> Execute(absl::Span<const uint8_t> message,
                                  size_t fd_count,
                                  absl::Span<const uint8_t> old_bank,
                                  absl::Span<uint8_t> new_bank,
                                  absl::Span<uint8_t> reply,
                                  uint32_t attempts) override {
    points_.Reach();
    if (!late_fds_.empty()) {
      const absl::Status status = Deposit(message, absl::MakeSpan(late_fds_));
      late_fds_.clear();
      if (!status.ok()) return status;
    }
    auto outcome = ToyHandler::Execute(message, fd_count, old_bank, new_bank,
                                       reply, attempts);
    if (setup_.fault == LaneFault::kCommitBeforeBank) {
      late_bank_.assign(new_bank.begin(), new_bank.end());
      std::memcpy(new_bank.data(), old_bank.data(), old_bank.size());
    }
    points_.Reach();
    return outcome;
  }

  void Committed(absl::Span<const uint8_t> bank) override {
    points_.Reach();
    if (!late_bank_.empty()) WriteBankLate(bank);
    points_.Reach();
  }

 private:
  void WriteBankLate(absl::Span<const uint8_t> bank) {
    std::memcpy(const_cast<uint8_t*>(bank.data()), late_bank_.data(),
                bank.size());
    late_bank_.clear();
    LaneHeader& header = HeaderOf(setup_.section);
    LaneRecord& record = header.records[UnpackLaneWord(header.commit).bank];
    record.crc = LaneSum(record, bank);
  }

  const LaneVictimSetup& setup_;
  Points& points_;
  std::vector<UniqueFd> late_fds_;
  std::vector<uint8_t> late_bank_;
};

// What a successor reads when the fault is one of those before it.
void MisreadJournal(const LaneVictimSetup& setup) {
  LaneHeader& header = HeaderOf(setup.section);
  const LaneWord word = UnpackLaneWord(header.commit);
  LaneRecord& record = header.records[word.bank];
  LaneTxSet& set = header.tx[word.tx];
  const auto sent = TallyEntries(set.entries, word.folded, record.reply_size);
  if (!word.replying || !sent.ok()) return;
  switch (setup.fault) {
    case LaneFault::kAlwaysResends:
      if (word.folded == 0) ArmEntries(set.entries);
      break;
    case LaneFault::kNeverResends:
      if (sent->next != kLaneEntries) {
        set.entries[sent->next].length =
            static_cast<uint32_t>(record.reply_size - sent->bytes);
      }
      break;
    case LaneFault::kPositionAfterCommit:
      if (sent->bytes == 0) {
        const LaneLayout at = LayOutLane(
            setup.sizes.bank, setup.sizes.max_message, setup.sizes.max_reply);
        record.flags = (record.flags & 0xff) |
                       PackUnread(UnreadOf(header.records[word.bank ^ 1]));
        record.crc = LaneSum(record, setup.section.subspan(at.bank[word.bank],
                                                           setup.sizes.bank));
      }
      break;
    default:
      break;
  }
}

[[noreturn]] void GiveUp(const LaneVictimSetup& setup,
                         const absl::Status& status) {
  std::snprintf(setup.page->error, sizeof(setup.page->error), "%s",
                status.ToString().c_str());
  _exit(kGaveUp);
}

}  // namespace

bool CanTrapInstructions() {
#if defined(__x86_64__)
  return true;
#else
  return false;
#endif
}

void RunLaneVictim(const LaneVictimSetup& setup) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sigaction interrupt {};  // Without SA_RESTART: calls return EINTR.
  interrupt.sa_handler = [](int) {};
  sigaction(SIGUSR1, &interrupt, nullptr);
  if (mlock(setup.section.data(), setup.section.size()) != 0) {
    GiveUp(setup, absl::ResourceExhaustedError("mlock"));
  }
  UniqueFd epoll;
  const bool stepped = setup.stepping != Stepping::kNone;
  if (!stepped) {
    epoll.Reset(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    epoll_ctl(epoll.get(), EPOLL_CTL_ADD, setup.stream.get(), &event);
    event.events = EPOLLIN;
    epoll_ctl(epoll.get(), EPOLL_CTL_ADD, setup.wake.get(), &event);
  } else if (setup.step_from_point == 0) {
    StartStepping(setup);
  }
  Points points(setup);
  MisreadJournal(setup);
  auto lane = Lane::Attach(setup.section, setup.sizes, setup.epoch);
  if (!lane.ok()) GiveUp(setup, lane.status());
  setup.page->serving.store(1);
  VictimIo io(setup, points);
  VictimHandler handler(setup, points);
  for (;;) {
    const bool finish = setup.page->finish.load() != 0;
    const auto progress =
        lane->RunOn(io, handler, finish ? Lane::Waiting::kAny : setup.waiting);
    if (!progress.ok()) GiveUp(setup, progress.status());
    if (*progress == Lane::Progress::kClosed) {
      GiveUp(setup, absl::UnavailableError("closed"));
    }
    if (finish) _exit(0);
    points.Reach();
    if (stepped) continue;
    epoll_event event;
    const bool settle = lane->unread() != 0;
    if (epoll_wait(epoll.get(), &event, 1,
                   settle ? Lane::kSettlePauseMs : -1) == 0) {
      const absl::Status settled = lane->SettleOn(io);
      if (!settled.ok()) GiveUp(setup, settled);
    }
  }
}

}  // namespace holdfast::testing
