#include "launcher/backend_sys.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/errno_status.h"
#include "base/log.h"
#include "base/pidfd_sys.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/by_path_sys.h"
#include "launcher/exit_cause.h"
#include "launcher/process_sys.h"
#include "launcher/script.h"
#include "sandbox/async_io_filter.h"
#include "sandbox/jail_sys.h"

namespace holdfast::launcher {
namespace {

// The descriptor of the socket in the program.
constexpr int kSocketFd = 3;
static_assert(kSocketFd == kByPathFrontEndFd);

// How long a thread of a life may run at a real-time priority without waiting
// for anything: nothing else gets its processor meanwhile. Far more than one
// needs that has work, far less than people wait for a machine.
constexpr uint64_t kRealtimeUs = 2'000'000;

backend::Options OptionsOf(const BackendSpec& spec,
                           const RestartLimits& restart) {
  backend::Options options;
  options.restart = restart;
  options.want_spare = spec.standby;
  options.seed = static_cast<uint64_t>(UnixNs());
  return options;
}

BackendEnds NoEnds() {
  return BackendEnds(store::kBackendResourceCount, BorrowedFd(-1));
}

// None of its writes comes after this.
void KillAndAwait(BorrowedFd pidfd) {
  constexpr int kPatienceMs = 2000;
  SendSignal(pidfd, SIGKILL).IgnoreError();
  pollfd end = {pidfd.get(), POLLIN, 0};
  (void)poll(&end, 1, kPatienceMs);
}

// Of the life with this connection.
std::optional<size_t> SeatOf(uint64_t cookie,
                             const std::vector<UniqueFd>& ends) {
  for (size_t seat = 0; seat < store::kBackendSeats && cookie != 0; ++seat) {
    const UniqueFd& connection =
        ends[store::InSeat(seat, store::kBackendConnection)];
    if (SocketCookie(connection) == cookie) return seat;
  }
  return std::nullopt;
}

bool HasHungUp(BorrowedFd connection) {
  pollfd poll_fd = {connection.get(), POLLRDHUP, 0};
  return poll(&poll_fd, 1, 0) > 0;
}

}  // namespace

BackendProcess::BackendProcess(const BackendSpec& spec,
                               const RestartLimits& restart, Host host)
    : spec_(spec),
      host_(std::move(host)),
      supervision_(OptionsOf(spec, restart)) {}

void BackendProcess::Handle(const backend::Event& event) {
  begun_ = true;
  events_.push_back(event);
  if (stepping_) return;
  stepping_ = true;
  while (!events_.empty()) {
    const backend::Event next = std::move(events_.front());
    events_.pop_front();
    backend::StepResult result =
        backend::Step(std::move(supervision_), next, Now());
    supervision_ = std::move(result.next);
    for (const backend::Action& action : result.actions) {
      std::visit([this](const auto& a) { Perform(a); }, action);
    }
  }
  stepping_ = false;
}

void BackendProcess::Perform(const backend::SpawnLife& action) {
  if (const absl::Status status = Spawn(action.life); !status.ok()) {
    SayFirst(action.life, status);
    Handle(backend::StartFailed{action.life, std::string(status.message())});
    return;
  }
  MakeVerdictChannel();
  BackendEnds ends = NoEnds();
  PutInSeat(lives_.back(), ends);
  if (lives_.back().follows) {
    ends[store::kBackendNext] = BorrowedFd(lives_.back().connection);
  }
  host_.hand_over(ends);
}

// That of a life that has ended is nobody's, and there are never three.
size_t BackendProcess::FreeSeat() const {
  size_t seat = 0;
  for (const Life& life : lives_) {
    if (life.seat == 0) seat = 1;
  }
  return seat;
}

void BackendProcess::PutInSeat(const Life& life, BackendEnds& ends) {
  const auto put = [&](store::BackendResource resource, BorrowedFd fd) {
    ends[store::InSeat(life.seat, resource)] = fd;
  };
  put(store::kBackendRequests, life.requests);
  put(store::kBackendRequestsPeer, life.requests_peer);
  put(store::kBackendConnection, life.connection);
  ends[store::FenceOf(life.seat)] = BorrowedFd(life.fence);
}

absl::StatusOr<UniqueFd> BackendProcess::OpenProgram(
    const std::string& path, std::vector<std::string>& argv) const {
  ASSIGN_OR_RETURN(UniqueFd program, host_.open(path));
  char head[kScriptHead];
  const ssize_t size = pread(program.get(), head, sizeof(head), 0);
  if (size < 0) return ErrnoStatus(absl::StrCat("read ", path));
  argv = InterpreterOf({head, static_cast<size_t>(size)});
  argv.push_back(path);
  if (argv.size() == 1) return program;
  UniqueFd interpreter(open(argv.front().c_str(), O_PATH | O_CLOEXEC));
  if (interpreter.valid()) return interpreter;
  return ErrnoStatus(
      absl::StrCat("open ", argv.front(), ", the interpreter of ", path));
}

absl::Status BackendProcess::Spawn(backend::LifeNumber number) {
  const BackendSpec& spec =
      number == supervision_.candidate ? candidate_spec_ : spec_;
  ASSIGN_OR_RETURN(auto ends, spec.handover == BackendHandover::kListeningFd
                                  ? ListenerPair()
                                  : StreamPair());
  sandbox::JailSpec jail;
  ASSIGN_OR_RETURN(const UniqueFd program, OpenProgram(spec.binary, jail.argv));
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return ErrnoStatus("open /dev/null");
  ASSIGN_OR_RETURN(const std::vector<UniqueFd> groups,
                   host_.group->OpenProcesses());
  jail.program = absl::StrCat("/proc/self/fd/", program.get());
  for (const std::string& arg : spec.args) {
    jail.argv.push_back(
        absl::StrReplaceAll(arg, {{"{fd}", absl::StrCat(kSocketFd)}}));
  }
  jail.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  jail.confinement = sandbox::Confinement::kFenced;
  jail.root = sandbox::Root::kHost;
  jail.want_listener = spec.synchronous;
  if (spec.synchronous) jail.startup_filter = sandbox::RefuseAsyncIo();
  jail.fds = {{null, STDIN_FILENO},
              {null, STDOUT_FILENO},
              {BorrowedFd(STDERR_FILENO), STDERR_FILENO},
              {ends.second, kSocketFd}};
  if (spec.handover == BackendHandover::kListeningPath) {
    jail.program = "/proc/self/exe";
    jail.argv.insert(jail.argv.begin(), kByPathName);
    jail.fds.push_back({program, kByPathProgramFd});
  }
  jail.cgroups.assign(groups.begin(), groups.end());
  if (!spec.polls && host_.realtime_priority != 0) {
    // Its threads inherit it: the requests are theirs.
    jail.realtime_priority = static_cast<int>(host_.realtime_priority);
    jail.limits.realtime_us = kRealtimeUs;
  }
  ASSIGN_OR_RETURN(auto requests, StreamPair());
  ASSIGN_OR_RETURN(sandbox::JailedProcess process, sandbox::Spawn(jail));
  Life life;
  life.number = number;
  life.seat = FreeSeat();
  life.started = StartTimeOf(process.pid);
  life.requests = std::move(requests.first);
  life.requests_peer = std::move(requests.second);
  life.pid = process.pid;
  life.pidfd = std::move(process.pidfd);
  life.connection = std::move(ends.first);
  // In the place of that of the last one in this seat, which has fallen.
  life.fence = process.listener.valid() ? std::move(process.listener)
                                        : UniqueFd(eventfd(0, EFD_CLOEXEC));
  // The keeper itself says of a candidate whether it will do.
  life.follows =
      number == supervision_.spare && number != supervision_.candidate;
  host_.exit_status(life.pid);  // Of an earlier process of this number.
  const int pid = life.pid;
  lives_.push_back(std::move(life));
  host_.report("backend-started", pid, "",
               number == supervision_.candidate ? "candidate"
               : number == supervision_.spare   ? "spare"
                                                : "");
  return absl::OkStatus();
}

void BackendProcess::Perform(const backend::HandOver& action) {
  const Life* life = Find(action.life);
  if (life == nullptr) return;
  ++lives_given_;
  // One message: the guest waits for it.
  BackendEnds ends = NoEnds();
  ends[store::kBackendCurrent] = BorrowedFd(life->connection);
  host_.hand_over(ends);
}

absl::Status BackendProcess::Replace(const BackendSpec& spec) {
  RETURN_IF_ERROR(backend::CanReplace(supervision_));
  BeReplacedBy(spec, backend::ReplaceRequested{});
  return absl::OkStatus();
}

void BackendProcess::Restart() {
  if (!backend::CanReplace(supervision_).ok()) {
    return Handle(backend::RestartRequested{});
  }
  BeReplacedBy(BackendSpec(spec_), backend::RestartRequested{});
}

void BackendProcess::BeReplacedBy(const BackendSpec& spec,
                                  const backend::Event& event) {
  candidate_spec_ = spec;
  // As the standby is: it is one.
  candidate_spec_.standby = spec_.standby;
  replacement_.reset();
  Handle(event);
}

void BackendProcess::Perform(const backend::CommitReplacement& action) {
  replaced_spec_ = std::exchange(spec_, candidate_spec_);
  since_ = action.candidate;
  host_.replaced(spec_);
}

void BackendProcess::Perform(const backend::EndReplacement& action) {
  if (!action.why_not.empty()) {
    host_.report("backend-kept", pid(), "", action.why_not);
    replacement_ = absl::FailedPreconditionError(action.why_not);
    if (since_ == 0) return;
    since_ = 0;
    spec_ = replaced_spec_;
    return host_.replaced(spec_);
  }
  since_ = 0;
  host_.report("backend-replaced", pid(), "", spec_.binary);
  replacement_ = absl::OkStatus();
}

void BackendProcess::Perform(const backend::EndLife& action) {
  const Life* life = Find(action.life);
  if (life == nullptr) return;
  const absl::Status sent =
      SendSignal(life->pidfd, action.kill ? SIGKILL : SIGTERM);
  if (!sent.ok()) LogError("ending a back-end: ", sent.message());
}

void BackendProcess::Perform(const backend::ArmTimer& action) {
  timers_[static_cast<size_t>(action.timer)] = Now() + action.delay;
}

void BackendProcess::Perform(const backend::Report& action) {
  host_.report(action.type, PidOf(action.life), "", action.detail);
}

// A pidfd is readable when the last thread has ended: none of its calls is
// still under way then.
void BackendProcess::Check() {
  for (size_t i = 0; i < lives_.size();) {
    Life& life = lives_[i];
    if (HasEnded(life.pidfd)) {
      const backend::LifeNumber number = life.number;
      const std::string cause = CauseOf(life);
      SayHowItEnded(life, cause);
      host_.report("backend-ended", life.pid, cause, "");
      // Of one that was to end its exit status says nothing.
      const bool told = life.useless && absl::StartsWith(cause, "exit status");
      if (IsOwnFault(cause) && !told) TellOfFault(life);
      lives_.erase(lives_.begin() + static_cast<ptrdiff_t>(i));
      Handle(backend::LifeEnded{number});
      i = 0;
      continue;
    }
    if (!life.useless && HasHungUp(life.connection)) {
      Condemn(life, "it has closed its connection");
      i = 0;
      continue;
    }
    ++i;
  }
  TakeVerdicts();
}

void BackendProcess::Condemn(Life& life, std::string why) {
  life.useless = true;
  life.why = why;
  Handle(backend::BecameUseless{life.number, std::move(why)});
}

void BackendProcess::Adopt(const RecordedBackend& recorded,
                           std::vector<UniqueFd> ends) {
  const uint64_t current = SocketCookie(ends[store::kBackendCurrent].valid()
                                            ? ends[store::kBackendCurrent]
                                            : ends[store::kBackendConnection]);
  const uint64_t next_life = SocketCookie(ends[store::kBackendNext]);
  backend::Adopted adopted;
  adopted.next = recorded.next_life;
  adopted.denied = recorded.denied;
  since_ = recorded.since;
  replaced_spec_ = spec_;  // What was before it is not known any more.
  if (recorded.has_policy) supervision_.policy.Restore(recorded.policy);
  for (const RecordedLife& found : recorded.lives) {
    absl::StatusOr<UniqueFd> pidfd = OpenPidfd(found.pid);
    // The number may be somebody else's by now; not after the pidfd is open.
    if (!pidfd.ok() || StartTimeOf(found.pid) != found.started) continue;
    const std::optional<size_t> seat = SeatOf(found.cookie, ends);
    if (!seat.has_value() || HasEnded(*pidfd)) {
      KillAndAwait(*pidfd);
      continue;
    }
    const auto take = [&](store::BackendResource resource) {
      return std::move(ends[store::InSeat(*seat, resource)]);
    };
    Life life;
    life.number = found.number;
    life.seat = *seat;
    life.pid = found.pid;
    life.pidfd = *std::move(pidfd);
    life.connection = take(store::kBackendConnection);
    life.requests = take(store::kBackendRequests);
    life.requests_peer = take(store::kBackendRequestsPeer);
    life.fence = std::move(ends[store::FenceOf(*seat)]);
    life.follows = next_life == found.cookie;
    life.started = found.started;
    lives_.push_back(std::move(life));
    (found.cookie == current ? adopted.current : adopted.spare) = found.number;
  }
  adopted.outdated = adopted.current != 0 && adopted.current < since_;
  // The keeper says again what the last launcher may not have read.
  MakeVerdictChannel();
  Handle(adopted);
  Perform(backend::HandOver{adopted.current});
}

RecordedBackend BackendProcess::recorded() const {
  RecordedBackend recorded;
  for (const Life& life : lives_) {
    const bool unknown =
        life.number == supervision_.candidate && since_ != life.number;
    recorded.lives.push_back({life.number, life.pid, life.started,
                              unknown ? 0 : SocketCookie(life.connection)});
  }
  recorded.next_life = supervision_.next;
  recorded.since = since_;
  recorded.policy = supervision_.policy.Save();
  recorded.denied = supervision_.state == backend::State::kDenied;
  return recorded;
}

std::string BackendProcess::CauseOf(const Life& life) const {
  if (const auto cause = TakeExitCause(life.pidfd); cause.has_value()) {
    return *cause;
  }
  const std::optional<int> status = host_.exit_status(life.pid);
  return status.has_value() ? ExitCause(*status) : "unknown";
}

void BackendProcess::OnTime(Uptime now) {
  for (size_t i = 0; i < timers_.size(); ++i) {
    if (!timers_[i].has_value() || *timers_[i] > now) continue;
    timers_[i].reset();
    Handle(backend::TimerFired{static_cast<backend::Timer>(i)});
  }
}

Uptime BackendProcess::NextDeadline() const {
  Uptime next = absl::InfiniteDuration();
  for (const std::optional<Uptime>& timer : timers_) {
    if (timer.has_value()) next = std::min(next, *timer);
  }
  return next;
}

std::vector<BorrowedFd> BackendProcess::Sources() const {
  std::vector<BorrowedFd> sources;
  for (const Life& life : lives_) sources.emplace_back(life.pidfd);
  if (verdicts_.valid()) sources.emplace_back(verdicts_);
  return sources;
}

std::vector<int> BackendProcess::Pids() const {
  std::vector<int> pids;
  for (const Life& life : lives_) pids.push_back(life.pid);
  return pids;
}

std::vector<BorrowedFd> BackendProcess::Connections() const {
  std::vector<BorrowedFd> connections;
  for (const Life& life : lives_) {
    if (!life.useless) connections.emplace_back(life.connection);
  }
  return connections;
}

BackendEnds BackendProcess::ends() const {
  BackendEnds ends = NoEnds();
  ends[store::kBackendVerdicts] = BorrowedFd(verdicts_peer_);
  for (const Life& life : lives_) PutInSeat(life, ends);
  if (const Life* life = Find(supervision_.current); life != nullptr) {
    ends[store::kBackendCurrent] = BorrowedFd(life->connection);
  }
  const Life* const spare = Find(supervision_.spare);
  if (spare != nullptr && spare->follows) {
    ends[store::kBackendNext] = BorrowedFd(spare->connection);
  }
  return ends;
}

absl::Status BackendProcess::Kill(int signal) {
  const Life* life = Find(supervision_.current);
  if (life == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("no back-end runs at the moment (", state(), ")"));
  }
  return SendSignal(life->pidfd, signal);
}

const BackendProcess::Life* BackendProcess::Find(
    backend::LifeNumber number) const {
  for (const Life& life : lives_) {
    if (life.number == number && number != 0) return &life;
  }
  return nullptr;
}

int BackendProcess::PidOf(backend::LifeNumber number) const {
  const Life* life = Find(number);
  return life == nullptr ? 0 : life->pid;
}

}  // namespace holdfast::launcher
