#include "statestore/testing/lane_kill_sys.h"

#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "base/shm_sys.h"
#include "base/unix_socket_sys.h"
#include "statestore/lane_format.h"
#include "statestore/lane_journal.h"

namespace holdfast::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kStateNames[] = {"idle",
                                       "unread",
                                       "part of header",
                                       "part of payload",
                                       "escrowed",
                                       "received",
                                       "executing",
                                       "executing unread",
                                       "committed",
                                       "partly sent",
                                       "sent"};

// Everything that outlives the victims.
class Killer {
 public:
  explicit Killer(const KillOptions& options);
  ~Killer() { munmap(page_, sizeof(LaneVictimPage)); }

  KillReport Run();

 private:
  pid_t Fork(LaneVictimSetup setup);
  LaneVictimSetup NewSetup();
  void KillOnce();
  void KillAtRandom(pid_t pid);
  void KillAfterSteps(pid_t pid);
  void WaitForOwnDeath(pid_t pid);
  void Judge();
  void End(pid_t pid, bool own_death);
  void Note(int status, bool may_finish);
  LaneState State() const;
  bool Failed() const { return !client_->violation().empty(); }
  uint64_t Random(uint64_t to) { return random_() % (to + 1); }
  void StepOrYield() {
    if (!client_->Step()) sched_yield();
  }

  void StepFor(std::chrono::nanoseconds time) {
    for (const auto until = Clock::now() + time; Clock::now() < until;) {
      client_->Step();
    }
  }

  const KillOptions options_;
  LaneSizes sizes_;
  UniqueFd memfd_, client_end_, server_end_, store_near_, store_far_, gift_,
      wake_;
  Mapping section_;
  LaneVictimPage* page_;
  std::unique_ptr<LaneClient> client_;
  std::mt19937_64 random_;
  KillReport report_;
  uint64_t epoch_ = 0;
  uint64_t next_steps_ = 0;
};

Killer::Killer(const KillOptions& options)
    : options_(options), random_(options.client.seed + 77) {
  sizes_ = {kToyBankSize, kToyMaxRequest, options.client.max_reply};
  memfd_ = std::move(*CreateSealedMemfd("lane", LaneSize(sizes_)));
  section_ =
      std::move(*MapShared(memfd_, 0, LaneSize(sizes_), MapAccess::kReadWrite));
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
  client_end_.Reset(pair[0]);
  server_end_.Reset(pair[1]);
  if (options.send_buffer != 0) {
    for (const int fd : pair) {
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &options.send_buffer, sizeof(int));
    }
  }
  auto store = SeqpacketPair();
  store_near_ = std::move(store->first);
  store_far_ = std::move(store->second);
  gift_.Reset(memfd_create("gift", MFD_CLOEXEC));
  wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  page_ = new (mmap(nullptr, sizeof(LaneVictimPage), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0)) LaneVictimPage;
  client_ = std::make_unique<LaneClient>(client_end_, store_far_, gift_,
                                         options.client);
}

LaneVictimSetup Killer::NewSetup() {
  LaneVictimSetup setup;
  setup.section = section_.span();
  setup.sizes = sizes_;
  setup.stream = server_end_;
  setup.store = store_near_;
  setup.gift = gift_;
  setup.wake = wake_;
  setup.page = page_;
  setup.fault = options_.fault;
  setup.waiting = options_.waiting;
  setup.epoch = ++epoch_;
  return setup;
}

pid_t Killer::Fork(LaneVictimSetup setup) {
  page_->serving.store(0);
  const pid_t pid = fork();
  if (pid < 0) abort();
  if (pid != 0) return pid;
  if (setup.stepping == LaneVictimSetup::Stepping::kTraced) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  }
  RunLaneVictim(setup);
}

// A victim may die of SIGKILL only, or end when it was asked to.
void Killer::Note(int status, bool may_finish) {
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return;
  if (may_finish && WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  client_->Complain(
      WIFEXITED(status) && WEXITSTATUS(status) != 0
          ? absl::StrCat("the server gave up: ", page_->error)
          : absl::StrCat("the server ended with wait status ", status));
}

// Kills unless the victim does it itself, and waits until it is gone. Replies
// are read meanwhile: a large one would block it for ever.
void Killer::End(pid_t pid, bool own_death) {
  int status = 0;
  if (!own_death) {
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
  } else {
    while (waitpid(pid, &status, WNOHANG) == 0) {
      if (Failed()) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return;
      }
      StepOrYield();
    }
  }
  Note(status, /*may_finish=*/page_->finish.load() != 0);
}

LaneState Killer::State() const {
  const auto& header = *reinterpret_cast<const LaneHeader*>(section_.data());
  const uint64_t bits = __atomic_load_n(&header.commit, __ATOMIC_ACQUIRE);
  if (bits == 0) return LaneState::kIdle;  // Not even formatted.
  const LaneWord word = UnpackLaneWord(bits);
  if (word.replying) {
    const size_t size = header.records[word.bank].reply_size;
    const auto tally =
        TallyEntries(header.tx[word.tx].entries, word.folded, size);
    if (!tally.ok() || tally->bytes == size) return LaneState::kSent;
    return tally->bytes == 0 ? LaneState::kCommitted : LaneState::kPartlySent;
  }
  const LaneRxSet& set = header.rx[word.rx];
  const auto at = TallyReception(
      set, word.folded, UnreadOf(header.records[word.bank]), kToyMaxRequest);
  if (!at.ok()) return LaneState::kIdle;
  if (at->have == 0) {
    return set.admitted != 0   ? LaneState::kEscrowed
           : set.attempts != 0 ? LaneState::kExecutingUnread
           : at->unread != 0   ? LaneState::kUnread
                               : LaneState::kIdle;
  }
  if (at->have < sizeof(ToyRequest)) return LaneState::kPartOfHeader;
  uint32_t total;
  std::memcpy(
      &total,
      section_.data() +
          LayOutLane(sizes_.bank, sizes_.max_message, sizes_.max_reply).message,
      sizeof(total));
  if (at->have < total) {
    return set.attempts != 0 ? LaneState::kExecutingUnread
                             : LaneState::kPartOfPayload;
  }
  return set.attempts != 0 ? LaneState::kExecuting : LaneState::kReceived;
}

// Half of the kills come a random time after the server is up, half a few
// microseconds after a reply: that is where it is busiest.
void Killer::KillAtRandom(pid_t pid) {
  const auto give_up = Clock::now() + std::chrono::milliseconds(20);
  const bool wait_for_start = Random(9) != 0;
  while (wait_for_start && page_->serving.load() == 0 &&
         Clock::now() < give_up) {
    StepOrYield();
  }
  for (uint32_t i = 0; i < options_.pauses && page_->serving.load() != 0; ++i) {
    StepFor(std::chrono::nanoseconds(Random(60000)));
    kill(pid, SIGSTOP);
    StepFor(std::chrono::nanoseconds(Random(20000)));
    kill(pid, SIGUSR1);
    kill(pid, SIGCONT);
  }
  std::chrono::nanoseconds delay(Random(120000));
  if (Random(1) == 0) {
    const uint64_t goal = client_->replies() + 1 + Random(3);
    while (client_->replies() < goal && Clock::now() < give_up && !Failed()) {
      StepOrYield();
    }
    delay = std::chrono::nanoseconds(Random(15000));
  }
  StepFor(delay);
  End(pid, /*own_death=*/false);
}

void Killer::KillAfterSteps(pid_t pid) {
  int status = 0;
  for (uint64_t i = 0; i <= next_steps_ && !Failed(); ++i) {
    waitpid(pid, &status, 0);
    if (!WIFSTOPPED(status)) {
      Note(status, false);
      client_->Complain("the server ended under the tracer");
      return;
    }
    if (i % 64 == 0) client_->Step();
    if (i == next_steps_) break;
    ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr);
    ++report_.steps;
  }
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
}

void Killer::KillOnce() {
  LaneVictimSetup setup = NewSetup();
  if (options_.mode == KillMode::kPoints) {
    setup.kill_at_point = 1 + Random(options_.max_points - 1);
  }
  const bool traced =
      options_.mode == KillMode::kTraced ||
      (options_.mode == KillMode::kSteps && !CanTrapInstructions());
  if (traced || options_.mode == KillMode::kSteps) {
    next_steps_ = (next_steps_ + options_.step_stride) % options_.max_steps;
    setup.stepping = traced ? LaneVictimSetup::Stepping::kTraced
                            : LaneVictimSetup::Stepping::kTrapped;
    setup.step_from_point = Random(options_.max_points);
    setup.trap_after = next_steps_ + 1;
  }
  const pid_t pid = Fork(setup);
  if (options_.mode == KillMode::kRandom) {
    KillAtRandom(pid);
  } else if (traced) {
    KillAfterSteps(pid);
  } else {
    End(pid, /*own_death=*/true);
    report_.steps += setup.trap_after;
  }
  ++report_.kills;
  ++report_.states[static_cast<size_t>(State())];
}

// Serves to the end with a victim that is not killed: every request must have
// been answered when the server has nothing left to do.
void Killer::Judge() {
  client_->Finish();
  const pid_t pid = Fork(NewSetup());
  while (!client_->AllSent() && !Failed()) {
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == pid) {
      Note(status, false);
      return;
    }
    StepOrYield();
  }
  page_->finish.store(1);
  uint64_t count = 1;
  if (write(wake_.get(), &count, sizeof(count)) != sizeof(count)) abort();
  End(pid, /*own_death=*/true);
  if (read(wake_.get(), &count, sizeof(count)) != sizeof(count)) abort();
  page_->finish.store(0);
  for (int quiet = 0; quiet < 3 && !Failed();) {
    quiet = client_->Step() ? 0 : quiet + 1;
  }
  if (!client_->AllAnswered()) client_->Complain("a request was lost");
  client_->Resume();
}

// Keeps killer and victims on one processor while it lives: a step, or a turn
// of the two, costs a switch then and not a wake-up of the other processor.
class OneProcessor {
 public:
  OneProcessor() {
    sched_getaffinity(0, sizeof(before_), &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one);
  }
  ~OneProcessor() { sched_setaffinity(0, sizeof(before_), &before_); }

 private:
  cpu_set_t before_;
};

// Once a minute, what is done so far: a million kills take hours.
class Progress {
 public:
  explicit Progress(const KillOptions& options) : options_(options) {}
  void Tell(uint64_t kills) {
    if (Clock::now() - said_ < std::chrono::minutes(1)) return;
    said_ = Clock::now();
    std::printf("%s: %llu of %llu kills\n", options_.name,
                static_cast<unsigned long long>(kills),
                static_cast<unsigned long long>(options_.kills));
    std::fflush(stdout);
  }

 private:
  const KillOptions& options_;
  Clock::time_point said_ = Clock::now();
};

KillReport Killer::Run() {
  const auto start = Clock::now();
  Progress progress(options_);
  absl::optional<OneProcessor> one;
  if (options_.mode == KillMode::kPoints ||
      options_.mode == KillMode::kTraced) {
    one.emplace();
  }
  while (report_.kills < options_.kills && !Failed()) {
    KillOnce();
    if (report_.kills % options_.kills_per_judgement == 0 && !Failed()) Judge();
    progress.Tell(report_.kills);
  }
  if (!Failed()) Judge();
  report_.requests = client_->requests();
  report_.violation = client_->violation();
  report_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return report_;
}

}  // namespace

void KillReport::Add(const KillReport& other) {
  kills += other.kills;
  requests += other.requests;
  steps += other.steps;
  seconds += other.seconds;
  for (size_t i = 0; i < states.size(); ++i) states[i] += other.states[i];
}

uint64_t KillReport::StatesSeen() const {
  return std::count_if(states.begin(), states.end(),
                       [](uint64_t n) { return n != 0; });
}

KillReport RunKills(const KillOptions& options) {
  return Killer(options).Run();
}

void PrintStates(const KillReport& report) {
  std::printf("    found:");
  for (size_t i = 0; i < report.states.size(); ++i) {
    std::printf(" %s %llu%s", kStateNames[i],
                static_cast<unsigned long long>(report.states[i]),
                i + 1 == report.states.size() ? "\n" : ",");
  }
  std::fflush(stdout);
}

void PrintReport(const KillOptions& options, const KillReport& report) {
  std::printf(
      "%-34s %7llu kills %8llu requests  %s  %.1f s", options.name,
      static_cast<unsigned long long>(report.kills),
      static_cast<unsigned long long>(report.requests),
      report.violation.empty() ? "0 violations" : report.violation.c_str(),
      report.seconds);
  if (report.steps != 0) {
    std::printf("  %llu steps", static_cast<unsigned long long>(report.steps));
  }
  std::printf("\n");
  PrintStates(report);
}

uint64_t ScaledKills(uint64_t kills) {
  const char* wanted = std::getenv("HOLDFAST_KILLS");
  const char* mode = std::getenv("HOLDFAST_LONG");
  uint64_t total = kSuiteKills;
  if (wanted != nullptr) {
    total = std::strtoull(wanted, nullptr, 10);
  } else if (mode != nullptr && absl::string_view(mode) == "1") {
    total = kLongKills;
  }
  return total == kSuiteKills
             ? kills
             : std::max<uint64_t>(kills * total / kSuiteKills, 10);
}

}  // namespace holdfast::testing
