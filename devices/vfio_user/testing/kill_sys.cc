#include "devices/vfio_user/testing/kill_sys.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/shm_sys.h"
#include "base/unix_socket_sys.h"
#include "devices/vfio_user/testing/kill_victim_sys.h"
#include "devices/vfio_user/testing/test_session.h"
#include "statestore/lane.h"

namespace holdfast::vfio_user {
namespace {

using Clock = std::chrono::steady_clock;

// How long an answer may take while a server lives and is left alone.
constexpr std::chrono::seconds kPatience(20);

// ---- The client ----

// A message, the reply of the session that nobody kills, and what else must
// have happened when that reply is there.
struct Exchange {
  Bytes reply;
  size_t received = 0;
  bool brings_descriptor = false;
  size_t descriptors = 0;
  int signalled = -1;  // An eventfd that must have counted.
};

class Client {
 public:
  Client(BorrowedFd stream, BorrowedFd window, uint64_t seed)
      : session_(window), stream_(stream), random_(seed) {
    session_.serving = VictimServing();
    session_.environment.inode = 42;
    memory_.Reset(memfd_create("client", MFD_CLOEXEC));
    for (UniqueFd& fd : eventfds_) fd.Reset(eventfd(0, EFD_NONBLOCK));
    Queue(VersionMessage(0, 0, "{\"capabilities\":{\"max_msg_fds\":8}}"), {});
  }

  // Sends and reads what can be done now; whether anything moved.
  bool Step() {
    if (unsent_.empty() && open_.size() < 3 && !finishing_) Ask();
    const bool sent = SendSome();
    return ReceiveSome() || sent;
  }
  // No new messages, but one that proves those before it.
  void Finish() {
    finishing_ = true;
    Queue(Read(0, 8, 8), {});
  }
  bool Done() const { return unsent_.empty() && open_.empty(); }

  uint64_t replies() const { return replies_; }
  const TestSession& session() const { return session_; }
  KillReport report;
  void Complain(const std::string& what) {
    if (report.violation.empty()) report.violation = what;
  }

 private:
  struct Unsent {
    Bytes bytes;
    std::vector<int> fds;
  };

  uint64_t Random(uint64_t to) { return random_() % (to + 1); }
  static Bytes Read(uint32_t region, uint64_t offset, uint32_t count) {
    return CommandMessage(Command::kRegionRead,
                          Join(RegionAccess{offset, region, count}));
  }

  void Ask() {
    switch (Random(11)) {
      case 0:
        return Queue(Read(0, 0, 200), {});  // The counter and more.
      case 1:
      case 2:
        return Queue(Read(0, 0, 8), {});
      case 3:
      case 4:
        return Queue(
            CommandMessage(Command::kRegionWrite,
                           Join(RegionAccess{8, 0, 8}, uint64_t{random_()}),
                           Random(1) == 0 ? kFlagNoReply : 0),
            {});
      case 5:
        return Queue(
            CommandMessage(Command::kRegionWriteMulti,
                           Join(uint64_t{3}, SmallWrite{8, 0, 8, {1, 2}},
                                SmallWrite{64, 0, 4, {9, 9, 9, 9}},
                                SmallWrite{8, 0, 8, {7}})),
            {});
      case 6:
        return Queue(Read(0, 0, 4096), {});
      case 7:
        return Map();
      case 8:
        return Queue(
            CommandMessage(Command::kDmaUnmap,
                           Join(DmaUnmap{24, 0, Random(7) * 0x1000, 0x1000})),
            {});
      case 9:
        return SetIrqs();
      case 10:
        return Signal();
      default:
        return Queue(CommandMessage(Command::kDeviceGetRegionInfo,
                                    Join(RegionInfo{80, 0, 2, 0, 0, 0})),
                     {});
    }
  }

  // Some overlap, some come without a descriptor.
  void Map() {
    const Bytes message = CommandMessage(
        Command::kDmaMap, Join(DmaMap{32, 3, 0, Random(7) * 0x1000, 0x1000}));
    if (Random(3) == 0) return Queue(message, {});
    Queue(message, {memory_.get()});
  }

  void SetIrqs() {
    const uint32_t start = static_cast<uint32_t>(Random(3));
    const uint32_t count = static_cast<uint32_t>(1 + Random(3 - start));
    std::vector<int> fds;
    for (uint32_t i = 0; i < count; ++i) {
      fds.push_back(eventfds_[start + i].get());
    }
    Queue(CommandMessage(Command::kDeviceSetIrqs,
                         Join(IrqSet{20, kIrqDataEventFd | kIrqActionTrigger,
                                     kPciMsixIrq, start, count})),
          fds);
  }

  // One at a time for each vector, or the first would be taken for the second.
  void Signal() {
    const uint32_t vector = static_cast<uint32_t>(Random(3));
    const int fd = eventfds_[vector].get();
    for (const Exchange& exchange : open_) {
      if (exchange.signalled == fd) return;
    }
    const bool set =
        session_.state
            .vectors[FirstVector(session_.device, kPciMsixIrq) + vector]
            .trigger != 0;
    uint64_t count = 0;
    while (read(fd, &count, sizeof(count)) > 0) continue;  // Spurious ones.
    Queue(CommandMessage(Command::kDeviceSetIrqs,
                         Join(IrqSet{20, kIrqDataNone | kIrqActionTrigger,
                                     kPciMsixIrq, vector, 1})),
          {});
    if (set) open_.back().signalled = fd;
  }

  void Queue(const Bytes& message, const std::vector<int>& fds) {
    ++report.messages;
    const auto outcome = session_.Deliver(message, fds.size());
    if (!outcome.ok()) {
      return Complain(absl::StrCat("model: ", outcome.status().ToString()));
    }
    unsent_.push_back({message, fds});
    if (outcome->reply.empty()) return;
    Exchange exchange;
    exchange.reply = outcome->reply;
    exchange.brings_descriptor = session_.state.reply_region != 0;
    open_.push_back(exchange);
  }

  bool SendSome() {
    if (unsent_.empty()) return false;
    Unsent& next = unsent_.front();
    const ssize_t size = SendFds(stream_, next.bytes, next.fds, MSG_DONTWAIT);
    if (size < 0) return false;
    if (static_cast<size_t>(size) != next.bytes.size()) {
      Complain("a short send");
    }
    unsent_.pop_front();
    return true;
  }

  bool ReceiveSome() {
    uint8_t bytes[1024];
    const size_t wanted =
        open_.empty() ? sizeof(bytes)
                      : std::min(sizeof(bytes), open_.front().reply.size() -
                                                    open_.front().received);
    UniqueFd fds[kMaxMessageFds];
    const Received got = ReceiveFds(stream_, absl::MakeSpan(bytes, wanted),
                                    absl::MakeSpan(fds), MSG_DONTWAIT);
    if (got.size <= 0) {
      if (got.size == 0) Complain("the connection was closed");
      return false;
    }
    if (open_.empty()) {
      Complain("bytes that nobody asked for");
      return true;
    }
    Exchange& exchange = open_.front();
    const size_t size = static_cast<size_t>(got.size);
    if (std::memcmp(bytes, exchange.reply.data() + exchange.received, size) !=
        0) {
      Complain(Difference(exchange, bytes, size));
    }
    exchange.received += size;
    exchange.descriptors += got.fd_count;
    if (exchange.received == exchange.reply.size()) Close(exchange);
    return true;
  }

  static std::string Difference(const Exchange& exchange, const uint8_t* bytes,
                                size_t size) {
    size_t i = 0;
    while (i < size && bytes[i] == exchange.reply[exchange.received + i]) ++i;
    return absl::StrCat(CommandName(Command{exchange.reply[2]}), ": byte ",
                        exchange.received + i, " of ", exchange.reply.size(),
                        " is ", bytes[i], ", not ",
                        exchange.reply[exchange.received + i]);
  }

  void Close(const Exchange& exchange) {
    ++replies_;
    if (exchange.descriptors != (exchange.brings_descriptor ? 1u : 0u)) {
      Complain(
          absl::StrCat("a reply with ", exchange.descriptors, " descriptors"));
    }
    if (exchange.signalled >= 0) {
      uint64_t count = 0;
      ++report.signals;
      if (read(exchange.signalled, &count, sizeof(count)) < 0) {
        Complain("an interrupt was lost");
      }
    }
    open_.pop_front();
  }

  TestSession session_;
  const BorrowedFd stream_;
  std::mt19937_64 random_;
  UniqueFd memory_;
  UniqueFd eventfds_[4];
  std::deque<Unsent> unsent_;
  std::deque<Exchange> open_;
  uint64_t replies_ = 0;
  bool finishing_ = false;
};

// ---- The killer ----

class Killer {
 public:
  explicit Killer(const KillOptions& options)
      : options_(options), random_(options.seed + 1) {
    const size_t size = LaneSize(kVictimSizes) + kSharedSize;
    memfd_ = std::move(*CreateSealedMemfd("segment", size));
    mapping_ = std::move(*MapShared(memfd_, 0, size, MapAccess::kReadWrite));
    shared_ =
        reinterpret_cast<Shared*>(mapping_.data() + LaneSize(kVictimSizes));
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
    near_.Reset(pair[0]);
    far_.Reset(pair[1]);
    auto store = SeqpacketPair();
    store_near_ = std::move(store->first);
    store_far_ = std::move(store->second);
    window_.Reset(memfd_create("window", MFD_CLOEXEC));
    client_ = std::make_unique<Client>(near_, window_, options.seed);
  }

  KillReport Run() {
    while (client_->report.kills < options_.kills && !Failed()) KillOnce();
    if (!Failed()) Judge();
    return client_->report;
  }

 private:
  bool Failed() const { return !client_->report.violation.empty(); }

  // What servers have put into escrow, so that the next one inherits it.
  void DrainStore() {
    for (;;) {
      store::Slot slot = 0;
      UniqueFd fd;
      const Received got = ReceiveFds(
          store_far_,
          absl::MakeSpan(reinterpret_cast<uint8_t*>(&slot), sizeof(slot)),
          absl::MakeSpan(&fd, 1), MSG_DONTWAIT);
      if (got.size <= 0) return;
      slots_[slot] = std::move(fd);
    }
  }

  pid_t Fork(uint64_t points) {
    DrainStore();
    __atomic_store_n(&shared_->serving, 0u, __ATOMIC_RELEASE);
    const pid_t pid = fork();
    if (pid < 0) abort();
    if (pid != 0) return pid;
    RunVictim({mapping_.span().first(LaneSize(kVictimSizes)), shared_, far_,
               store_near_, window_, &slots_, 1 + forks_, points,
               options_.fault});
  }

  void End(pid_t pid) {
    int status = 0;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status)) {
      client_->Complain(absl::StrCat("the server gave up: ", shared_->error));
    }
  }

  void KillOnce() {
    const uint64_t points = options_.at_points ? 1 + random_() % 40 : 0;
    const pid_t pid = Fork(points);
    ++forks_;
    ++client_->report.kills;
    if (points != 0) {
      while (Alive(pid) && !Failed()) client_->Step();
      return End(pid);
    }
    const auto start = Clock::now() + std::chrono::milliseconds(20);
    while (__atomic_load_n(&shared_->serving, __ATOMIC_ACQUIRE) == 0 &&
           Clock::now() < start && random_() % 64 != 0) {
      client_->Step();
    }
    // Half of them die a few microseconds after a reply.
    const bool soon = random_() % 2 == 0;
    const uint64_t goal = client_->replies() + 1 + random_() % 3;
    while (soon && client_->replies() < goal && Clock::now() < start) {
      client_->Step();
    }
    const auto end = Clock::now() + std::chrono::nanoseconds(
                                        random_() % (soon ? 15000 : 120000));
    while (Clock::now() < end) client_->Step();
    End(pid);
  }

  // Whether it has not ended by itself.
  static bool Alive(pid_t pid) {
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT | WNOHANG);
    return info.si_pid == 0;
  }

  // Lets one server live until everything is answered.
  void Judge() {
    const pid_t pid = Fork(0);
    ++forks_;
    client_->Finish();
    const auto until = Clock::now() + kPatience;
    while (!client_->Done() && !Failed() && Clock::now() < until) {
      if (!client_->Step()) usleep(50);
    }
    End(pid);
    if (!client_->Done()) client_->Complain("a message was lost");
    auto lane = Lane::Attach(mapping_.span().first(LaneSize(kVictimSizes)),
                             kVictimSizes, 1 + forks_);
    if (!lane.ok()) return client_->Complain(lane.status().ToString());
    CompareStates(lane->bank());
  }

  void CompareStates(absl::Span<const uint8_t> bank) {
    const TestSession& model = client_->session();
    SessionState state;
    std::memcpy(&state, bank.data(), sizeof(state));
    if (!CheckInvariants(state, shared_->session.windows).ok()) {
      client_->Complain("the state is broken");
    }
    if (std::memcmp(&state, &model.state, sizeof(state)) != 0) {
      client_->Complain(absl::StrCat(
          "the state is\n", Describe(state, shared_->session.windows),
          "and not\n", Describe(model.state, model.table)));
    }
    const auto& device = shared_->device.banks[shared_->device.current & 1];
    if (device.reads != model.device.bank().reads ||
        device.accumulator != model.device.bank().accumulator) {
      client_->Complain("the registers differ");
    }
  }

  const KillOptions options_;
  std::mt19937_64 random_;
  UniqueFd memfd_, near_, far_, store_near_, store_far_, window_;
  Mapping mapping_;
  Shared* shared_ = nullptr;
  Slots slots_;
  std::unique_ptr<Client> client_;
  uint64_t forks_ = 0;
};

}  // namespace

KillReport RunKills(const KillOptions& options) {
  return Killer(options).Run();
}

}  // namespace holdfast::vfio_user
