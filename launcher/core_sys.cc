#include "launcher/core_sys.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/process_sys.h"
#include "launcher/spawn_sys.h"

namespace holdfast::launcher {
namespace {

// Store and api never give up their places: no budget, only back-off.
RestartLimits ServantLimits() {
  RestartLimits limits;
  limits.budget = 0;
  limits.backoff_base = absl::Milliseconds(50);
  limits.backoff_max = absl::Seconds(2);
  limits.healthy_after = absl::Seconds(5);
  return limits;
}

uint64_t SequenceBase() {
  // Numbers go on when the core is restarted, without keeping the last one:
  // fewer than 1000 events a millisecond happen.
  return static_cast<uint64_t>(UnixNs() / 1000);
}

absl::StatusOr<UniqueFd> WatchSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : StopSignals()) sigaddset(&set, signal);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) {
    return ErrnoStatus("sigprocmask");
  }
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus("signalfd");
  return fd;
}

}  // namespace

Core::Core(const Options& options, CoreStart start)
    : options_(options),
      start_(std::move(start)),
      store_policy_(ServantLimits(), SequenceBase()),
      api_policy_(ServantLimits(), SequenceBase()),
      events_(SequenceBase()) {}

Core::~Core() { EndApi(); }

CoreEnd Core::Run() {
  prctl(PR_SET_NAME, "holdfastd-core");
  if (absl::Status status = Prepare(); !status.ok()) {
    LogError(status.message());
    EndStore();
    return CoreEnd::kFailed;
  }
  ReportOwn("core-started", getpid(), "", "");
  for (int pid : std::exchange(start_.left_behind, {})) {
    ReportOwn("killed", pid, "", "left behind by an earlier holdfastd");
  }
  if (start_.stop) stopping_ = true;
  if (!stopping_) RunSpecDirectory();
  while (!end_.has_value()) {
    Work();
    if (!end_.has_value()) Wait();
  }
  return *end_;
}

absl::Status Core::Prepare() {
  ASSIGN_OR_RETURN(signals_, WatchSignals());
  RETURN_IF_ERROR(PrepareDirectories());
  custody_ = std::move(start_.custody);
  const bool lived = custody_.valid();
  if (lived && !HasEnded(custody_.store_pidfd)) {
    const absl::Status status = AdoptFromStore();
    if (!status.ok()) {
      LogError("adoption: ", status.message());
      EndStore();
    }
  }
  if (store_ == nullptr) {
    // Core and store died together: nobody knows those children any more.
    if (lived) KillLeftBehind();
    RETURN_IF_ERROR(StartStore());
  }
  const std::string socket = options_.run_dir + "/core.sock";
  // The run directory is this holdfastd's alone, so the file is one of a core
  // before; a child that it was about to start may still have its listener.
  if (start_.cores_before > 0) unlink(socket.c_str());
  ASSIGN_OR_RETURN(ControlServer control, ControlServer::Create(socket, {}));
  control_.emplace(std::move(control));
  PrepareApi();
  return absl::OkStatus();
}

absl::Status Core::PrepareDirectories() {
  ASSIGN_OR_RETURN(binaries_, AllowedDirectories::Create("--allow-binary-dir",
                                                         options_.binary_dirs));
  ASSIGN_OR_RETURN(resources_,
                   AllowedDirectories::Create("--allow-resource-dir",
                                              options_.resource_dirs));
  std::vector<std::string> sockets = options_.socket_dirs;
  sockets.push_back(options_.run_dir);
  ASSIGN_OR_RETURN(sockets_,
                   AllowedDirectories::Create("--allow-socket-dir", sockets));
  ASSIGN_OR_RETURN(policies_, AllowedDirectories::Create("--policy-dir",
                                                         options_.policy_dirs));
  return absl::OkStatus();
}

void Core::Report(LaunchEvent event) {
  event.unix_ns = UnixNs();
  LogInfo(EventText(event));
  events_.Add(std::move(event));
}

std::optional<int> Core::TakeExitStatus(int pid) {
  constexpr size_t kMost = 256;
  std::deque<ExitNotice>& exits = start_.exits;
  while (std::optional<ExitNotice> exit = ReceiveExit(start_.parent_channel)) {
    exits.push_back(*exit);
    if (exits.size() > kMost) exits.pop_front();
  }
  std::optional<int> status;
  // The latest: numbers come back.
  for (const ExitNotice& exit : exits) {
    if (exit.pid == pid) status = exit.status;
  }
  exits.erase(
      std::remove_if(exits.begin(), exits.end(),
                     [pid](const ExitNotice& e) { return e.pid == pid; }),
      exits.end());
  return status;
}

void Core::ReportOwn(std::string type, int pid, std::string cause,
                     std::string detail) {
  LaunchEvent event;
  event.type = std::move(type);
  event.pid = pid;
  event.cause = std::move(cause);
  event.detail = std::move(detail);
  Report(std::move(event));
}

// Everything that may have changed, in this order: what the store says comes
// before what the children's ends say, and both before time.
void Core::Work() {
  ReadStoreEvents();
  for (const auto& instance : instances_) instance->CheckChildren();
  RestartStoreIfDue();
  CheckStoreIfDue();
  CheckApi();
  RestartApiIfDue();
  const Uptime now = Now();
  for (const auto& instance : instances_) instance->OnTime(now);
  if (stopping_) {
    for (const auto& instance : instances_) instance->Handle(StopRequested{});
  }
  RemoveStopped();
  AnswerWaiting();
  if (stopping_ && instances_.empty()) {
    EndApi();
    EndStore();
    unlink((options_.run_dir + "/core.sock").c_str());
    ReportOwn("core-stopped", getpid(), "", "");
    end_ = CoreEnd::kStopped;
  }
  if (raise_ != 0) kill(getpid(), std::exchange(raise_, 0));
}

void Core::Wait() {
  std::vector<pollfd> fds;
  const auto add = [&fds](BorrowedFd fd) {
    fds.push_back({fd.get(), POLLIN, 0});
    return fds.size() - 1;
  };
  const size_t signals = add(signals_);
  const size_t parent = add(start_.parent_pidfd);
  const size_t listener = add(control_->listener());
  const auto clients = control_->clients();
  const size_t first_client = fds.size();
  for (const auto& [id, fd] : clients) add(fd);
  if (store_ != nullptr) {
    add(store_->fd());
    add(custody_.store_pidfd);
  }
  if (api_pidfd_.valid()) add(api_pidfd_);
  for (const auto& instance : instances_) {
    for (BorrowedFd pidfd : instance->Pidfds()) add(pidfd);
    for (BorrowedFd socket : instance->Hangups()) {
      fds[add(socket)].events = POLLRDHUP;
    }
  }
  timespec timeout = {};
  const Uptime next = NextDeadline();
  const bool forever = next == absl::InfiniteDuration();
  if (!forever) {
    timeout = absl::ToTimespec(std::max(next - Now(), absl::ZeroDuration()));
  }
  heard_ = Now();
  if (ppoll(fds.data(), fds.size(), forever ? nullptr : &timeout, nullptr) <=
      0) {
    return;
  }
  if (fds[parent].revents != 0) {
    end_ = CoreEnd::kParentDied;
    return;
  }
  if (fds[signals].revents != 0) {
    signalfd_siginfo info;
    if (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
      stopping_ = true;
    }
  }
  // An answer is no older than what the store had said when it was asked.
  ReadStoreEvents();
  for (size_t i = 0; i < clients.size(); ++i) {
    if (fds[first_client + i].revents == 0) continue;
    absl::StatusOr<Request> request = control_->Read(clients[i].first);
    if (request.ok()) Serve(clients[i].first, *request);
  }
  if (fds[listener].revents != 0) control_->Accept();
}

Uptime Core::NextDeadline() const {
  Uptime next = store_ != nullptr
                    ? store_check_
                    : store_restart_.value_or(absl::InfiniteDuration());
  if (api_restart_.has_value()) next = std::min(next, *api_restart_);
  if (api_pidfd_.valid()) next = std::min(next, api_deadline_);
  for (const auto& instance : instances_) {
    next = std::min(next, instance->NextDeadline());
  }
  for (const Waiting& waiting : waiting_) {
    next = std::min(next, waiting.deadline);
  }
  return next;
}

void Core::RemoveStopped() {
  instances_.erase(std::remove_if(instances_.begin(), instances_.end(),
                                  [](const auto& i) { return i->stopped(); }),
                   instances_.end());
}

void Core::AnswerWaiting() {
  std::vector<Waiting> still;
  for (Waiting& waiting : waiting_) {
    if (!control_->Has(waiting.client)) continue;
    Answer answer;
    answer.tag = waiting.request.tag;
    if (AnswerTo(waiting, answer)) {
      control_->Send(waiting.client, answer);
    } else {
      still.push_back(std::move(waiting));
    }
  }
  waiting_ = std::move(still);
}

bool Core::AnswerTo(Waiting& waiting, Answer& answer) {
  const Request& request = waiting.request;
  if (request.op == Op::kEvents) {
    events_.Read(request.since, answer);
    return !answer.events.empty() || stopping_;
  }
  Instance* const instance = FindInstance(request.instance);
  if (request.op == Op::kStop) return instance == nullptr;
  if (request.op == Op::kRun) return AnswerToRun(waiting, instance, answer);
  if (request.op == Op::kReplace || request.op == Op::kRestart) {
    const std::optional<absl::Status> end = instance != nullptr
                                                ? instance->replacement()
                                                : NoInstance(request.instance);
    answer.status = end.value_or(absl::OkStatus());
    return end.has_value();
  }
  answer.status =
      instance != nullptr ? instance->Resize() : NoInstance(request.instance);
  if (!absl::IsUnavailable(answer.status)) return true;
  if (waiting.deadline > Now()) return false;
  answer.status = absl::FailedPreconditionError(answer.status.message());
  return true;
}

Instance* Core::FindInstance(const std::string& name) {
  for (const auto& instance : instances_) {
    if (instance->name() == name) return instance.get();
  }
  return nullptr;
}

}  // namespace holdfast::launcher
