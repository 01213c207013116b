#include "launcher/instance_sys.h"

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "launcher/exit_cause.h"
#include "launcher/process_sys.h"

namespace holdfast::launcher {
namespace {

// Somebody else's child is reaped by its parent; until then nobody knows its
// exit cause. Beyond these tries, 10 ms apart, it stays unknown.
constexpr int kCauseTries = 100;
constexpr absl::Duration kCauseRetry = absl::Milliseconds(10);

// Not every kernel tells that a counter of a group has changed.
constexpr absl::Duration kLimitsCheck = absl::Seconds(1);

constexpr char kUnknownCause[] = "unknown (launcher restarted)";

SupervisorOptions OptionsFor(const LaunchSpec& spec) {
  SupervisorOptions options;
  options.restart = spec.restart;
  options.want_standby = spec.standby;
  options.seed = static_cast<uint64_t>(UnixNs());
  return options;
}

// How the keeper knows what was in flight: its argument, or what it does
// without one.
std::string TrackingOf(const LaunchSpec& spec) {
  std::string tracking = "offered";
  for (absl::string_view arg : spec.args) {
    if (absl::ConsumePrefix(&arg, "--tracking=")) tracking = std::string(arg);
  }
  return tracking;
}

// `error`: what kept the store from accepting it; 0: another VMM.
std::string WhyVmmWaits(uint64_t error) {
  if (error == 0) return "a second VMM waits until the first one has closed";
  return absl::StrCat("the store cannot accept a VMM and tries again: ",
                      std::strerror(static_cast<int>(error)));
}

}  // namespace

Instance::Instance(InstanceHost& host, store::InstanceId id, LaunchSpec spec)
    : host_(host),
      id_(id),
      spec_(std::move(spec)),
      supervision_(OptionsFor(spec_)) {}

absl::StatusOr<std::unique_ptr<Instance>> Instance::Create(InstanceHost& host,
                                                           store::InstanceId id,
                                                           Parts parts) {
  std::unique_ptr<Instance> instance(
      new Instance(host, id, std::move(parts.spec)));
  instance->resources_ = std::move(parts.resources);
  instance->listener_ = std::move(parts.listener);
  store::Client* store = host.store();
  if (store == nullptr) {
    return absl::UnavailableError(
        "holdfast-store is being restarted: try again");
  }
  RETURN_IF_ERROR(instance->MakeSegmentAndRecord());
  instance->MakeGroup();
  absl::Status status = instance->Deposit(*store);
  if (status.ok() && instance->listener_.valid()) {
    status = store->SetListener(id, instance->listener_);
  }
  if (!status.ok()) {
    store->RemoveInstance(id).IgnoreError();
    instance->group_.Remove();
    return status;
  }
  instance->Report("accepted", 0, "", 0, instance->spec_.binary);
  instance->MakeBackend();
  if (instance->backend_.has_value()) {
    instance->backend_->Handle(backend::Start{});
  }
  instance->Handle(SpecAccepted{});
  return instance;
}

absl::Status Instance::MakeSegmentAndRecord() {
  ASSIGN_OR_RETURN(segment_,
                   CreateSealedMemfd(("holdfast-" + spec_.name).c_str(),
                                     spec_.segment_bytes));
  counters_.accepted_ns =
      static_cast<uint64_t>(absl::ToInt64Nanoseconds(Now()));
  counters_.policy = supervision_.policy.Save();
  return MakeRecord();
}

absl::Status Instance::MakeRecord() {
  ASSIGN_OR_RETURN(UniqueFd fd,
                   CreateSealedMemfd("holdfast-record", kRecordSize));
  ASSIGN_OR_RETURN(record_,
                   MapShared(fd, 0, kRecordSize, MapAccess::kReadWrite));
  record_fd_ = std::move(fd);
  WriteRecord(record_.span(), spec_, counters_);
  return absl::OkStatus();
}

absl::Status Instance::Deposit(store::Client& store) {
  RETURN_IF_ERROR(
      store.CreateInstance(id_, spec_.name, segment_, host_.listener_fence()));
  for (size_t i = 0; i < resources_.size(); ++i) {
    RETURN_IF_ERROR(store.SetResource(
        id_, static_cast<store::Slot>(store::kSlotFirstResource + i),
        resources_[i]));
  }
  if (backend_.has_value()) {
    RETURN_IF_ERROR(GiveBackend(store, backend_->ends()));
  }
  return store.PutBlob(id_, record_fd_);
}

void Instance::Handle(const Event& event) {
  events_.push_back(event);
  if (stepping_) return;
  stepping_ = true;
  while (!events_.empty()) {
    const Event next = std::move(events_.front());
    events_.pop_front();
    StepResult result = Step(std::move(supervision_), next, Now());
    supervision_ = std::move(result.next);
    // Before the actions: a launcher that dies among them must not give the
    // same number to two children.
    counters_.next_child = supervision_.next_child;
    counters_.stopping = supervision_.state == State::kStopping;
    SaveCounters();
    for (const Action& action : result.actions) {
      std::visit([this](const auto& a) { Perform(a); }, action);
    }
  }
  stepping_ = false;
}

void Instance::OnStoreEvent(const store::Message& message) {
  switch (message.type) {
    case store::Type::kChildReady:
      return Handle(ChildReady{message.child});
    case store::Type::kChildLost:
      return Lose(message.child);
    case store::Type::kPromoted:
      return OnPromoted(message);
    case store::Type::kVmmConnected:
      return Handle(VmmConnected{});
    case store::Type::kVmmGone:
      return Handle(VmmGone{});
    case store::Type::kVmmWaiting:
      return ReportVmm("vmm-waiting", 0, WhyVmmWaits(message.arg0));
    case store::Type::kChildMisbehaved:
      if (message.arg0 == static_cast<uint64_t>(store::Error::kNone)) {
        return OnChannelEnded(message.child);
      }
      Report("misbehaved", PidOf(message.child), "", 0,
             absl::StrCat("store protocol error ", message.arg0));
      // The store may not have been able to.
      return Perform(KillChild{message.child});
    default:
      return;
  }
}

// Its fence will tell of its end; that must come, and only a child that lives
// on without its channel is worth a word.
void Instance::OnChannelEnded(ChildNumber number) {
  const Child* child = Find(number);
  if (child == nullptr || child->lost || child->pid == 0) return;
  // Asked to end: it may still be at it, and has a deadline.
  if (IsPlanned(number)) return;
  if (!HasEnded(child->pidfd) && !IsEnding(child->pid)) {
    Report("misbehaved", child->pid, "", 0, "closed its channel to the store");
  }
  Perform(KillChild{number});
}

bool Instance::IsPlanned(ChildNumber number) const {
  return number == supervision_.retiring ||
         supervision_.state == State::kStopping;
}

void Instance::OnPromoted(const store::Message& message) {
  epoch_ = message.arg0;
  promotion_us_ = 0;
  if (message.arg2 != 0 && message.arg1 >= message.arg2) {
    promotion_us_ = (message.arg1 - message.arg2) / 1000;
    CountRecovery(counters_, promotion_us_);
  }
  Handle(Promoted{message.child});
  promotion_us_ = 0;
}

void Instance::OnStoreLost() {
  Handle(StoreLost{});
  // Nobody else will tell of those that ended just before.
  for (size_t i = 0; i < children_.size(); ++i) {
    if (children_[i]->ended && !children_[i]->lost) Lose(children_[i]->number);
  }
}

void Instance::Lose(ChildNumber number) {
  Child* child = Find(number);
  if (child == nullptr || child->lost) return;
  child->lost = true;
  child->planned = IsPlanned(number);
  Handle(ChildLost{number});
  // It may have ended before the news of its loss came.
  retry_causes_ = Now();
}

void Instance::CheckChildren() {
  if (backend_.has_value()) backend_->Check();
  for (size_t i = 0; i < children_.size(); ++i) {
    Child& child = *children_[i];
    if (!child.ended && !HasEnded(child.pidfd)) continue;
    child.ended = true;
    // With a store, its fence speaks first; it watches the same pidfd.
    if (!child.lost && host_.store() == nullptr) Lose(child.number);
    // Its fence waits for all of its descendants. Process 1 of a pid namespace
    // takes them along; one without leaves them to us.
    if (!child.lost && !spec_.confined) KillStrays();
    FinishChild(child);
  }
  children_.erase(
      std::remove_if(children_.begin(), children_.end(),
                     [](const auto& c) { return c->lost && c->pid == 0; }),
      children_.end());
  if (stopped_ && children_.empty() &&
      (!backend_.has_value() || backend_->idle())) {
    RemoveGroup();
  }
}

// From the kernel, or from the parent: it is the parent of what an earlier core
// has started.
std::optional<std::string> Instance::ExitCauseOf(const Child& child) {
  std::optional<std::string> cause;
  if (child.pidfd.valid()) cause = TakeExitCause(child.pidfd);
  if (cause.has_value()) return cause;
  const std::optional<int> status = host_.TakeExitStatus(child.pid);
  if (status.has_value()) cause = ExitCause(*status);
  return cause;
}

// Reports why an ended child ended, as soon as that is known and its loss was
// handled; then it may be forgotten (pid 0).
void Instance::FinishChild(Child& child) {
  if (!child.lost || child.pid == 0) return;
  std::optional<std::string> cause = ExitCauseOf(child);
  if (!cause.has_value()) {
    if (++child.cause_tries < kCauseTries) {
      retry_causes_ = Now() + kCauseRetry;
      return;
    }
    cause = kUnknownCause;
  }
  if (*cause == "SIGKILL") {
    CheckLimits();
    if (unexplained_oom_kills_ > 0) {
      --unexplained_oom_kills_;
      cause = "out of memory (SIGKILL)";
    }
  }
  if (!child.planned) {
    CountCause(counters_.restarts, *cause);
    counters_.last_exit = {*cause, child.pid, UnixNs()};
  }
  SaveCounters();
  Report("exited", child.pid, *cause, 0, child.planned ? "as asked" : "");
  child.pid = 0;
}

void Instance::OnTime(Uptime now) {
  for (int i = 0; i < kTimerCount; ++i) {
    if (!timers_[i].has_value() || *timers_[i] > now) continue;
    timers_[i].reset();
    Handle(TimerFired{static_cast<Timer>(i)});
  }
  if (backend_.has_value()) backend_->OnTime(now);
  if (limits_check_.has_value() && *limits_check_ <= now) {
    CheckLimits();
    limits_check_ = now + kLimitsCheck;
  }
  if (retry_causes_.has_value() && *retry_causes_ <= now) {
    retry_causes_.reset();
    CheckChildren();
  }
}

Uptime Instance::NextDeadline() const {
  Uptime next = absl::InfiniteDuration();
  for (const std::optional<Uptime>& timer : timers_) {
    if (timer.has_value()) next = std::min(next, *timer);
  }
  if (backend_.has_value()) next = std::min(next, backend_->NextDeadline());
  for (const std::optional<Uptime>& due : {retry_causes_, limits_check_}) {
    if (due.has_value()) next = std::min(next, *due);
  }
  return next;
}

std::vector<BorrowedFd> Instance::Pidfds() const {
  std::vector<BorrowedFd> pidfds;
  for (const auto& child : children_) {
    if (!child->ended) pidfds.emplace_back(child->pidfd);
  }
  if (backend_.has_value()) {
    for (BorrowedFd source : backend_->Sources()) pidfds.push_back(source);
  }
  return pidfds;
}

InstanceStatus Instance::Status() const {
  InstanceStatus status;
  status.name = spec_.name;
  status.state = std::string(StateName(supervision_.state));
  status.binary = spec_.binary;
  status.socket_path = spec_.socket_path;
  status.active_pid = PidOf(supervision_.active);
  status.standby_pid = PidOf(supervision_.spare);
  status.standby_ready = supervision_.spare_ready;
  status.connected = supervision_.vmm_connected;
  status.epoch = epoch_;
  status.uptime_us = static_cast<uint64_t>(absl::ToInt64Microseconds(Now())) -
                     counters_.accepted_ns / 1000;
  status.recoveries = counters_.recoveries;
  status.last_recovery_us = counters_.last_recovery_us;
  status.max_recovery_us = counters_.max_recovery_us;
  status.median_recovery_us = MedianRecovery(counters_);
  status.last_exit_cause = counters_.last_exit.cause;
  status.last_exit_pid = counters_.last_exit.pid;
  status.last_exit_unix_ns = counters_.last_exit.unix_ns;
  status.segment_bytes = spec_.segment_bytes;
  status.crash_budget = supervision_.policy.tokens();
  status.restarts = counters_.restarts;
  status.degraded = degraded_;
  status.degraded.insert(status.degraded.end(), group_.degraded().begin(),
                         group_.degraded().end());
  if (backend_.has_value()) {
    status.backend = {spec_.backend.binary, std::string(backend_->state()),
                      backend_->pid(),      backend_->spare_pid(),
                      backend_->lives(),    TrackingOf(spec_)};
    status.degraded.push_back("degraded: back-end: it is not confined");
  }
  if (!host_.listener_fence()) {
    status.degraded.push_back(
        "degraded: death fence: this kernel has no early one, recovery waits "
        "for the tear-down of the dead process");
  }
  if (spec_.policy.empty()) {
    status.degraded.push_back("degraded: system call filter: no policy");
  }
  return status;
}

absl::Status Instance::Inject(Fault fault, FaultTarget target) {
  if (target == FaultTarget::kBackend) return InjectBackend(fault);
  Child* child = Find(target == FaultTarget::kActive ? supervision_.active
                                                     : supervision_.spare);
  if (child == nullptr) {
    const bool active = target == FaultTarget::kActive;
    const absl::Status why = NoProcess(active ? "active" : "standby");
    return absl::FailedPreconditionError(why.message());
  }
  if (fault == Fault::kSegv) return InjectSegmentationFault(child->pid);
  return SendSignal(child->pidfd, SignalOf(fault));
}

absl::Status Instance::Restart() {
  if (stopping()) {
    return absl::FailedPreconditionError(absl::StrCat(
        spec_.name, " is being stopped: run it again when it is gone"));
  }
  Handle(RestartRequested{});
  if (backend_.has_value()) backend_->Restart();
  return absl::OkStatus();
}

absl::Status Instance::NoProcess(absl::string_view role) const {
  const auto text = [&](auto... more) {
    return absl::StrCat(spec_.name, " has no ", role,
                        " process at the moment (", StateName(state()),
                        "): ", more...);
  };
  switch (state()) {
    case State::kRunning:
      if (!spec_.standby && role != "active") {
        return absl::FailedPreconditionError(
            text("it runs without a standby: set standby in its spec"));
      }
      if (supervision_.replacement == Replacement::kDenied) {
        return absl::FailedPreconditionError(
            text("it has crashed too often: see holdfast events"));
      }
      [[fallthrough]];
    case State::kRecovering:
      return absl::UnavailableError(
          text("one is being started: say it again in a moment"));
    case State::kQuarantined:
      return absl::FailedPreconditionError(
          text("it has crashed too often: see holdfast events; then holdfast "
               "restart ",
               spec_.name));
    case State::kStopping:
    case State::kStopped:
      return absl::FailedPreconditionError(text("it is being stopped"));
    case State::kStarting:
    case State::kBackingOff:
      break;
  }
  return absl::FailedPreconditionError(
      text("say it again when it runs: see holdfast status ", spec_.name));
}

Instance::Child* Instance::Find(ChildNumber number) {
  for (const auto& child : children_) {
    if (child->number == number && number != 0) return child.get();
  }
  return nullptr;
}

int Instance::PidOf(ChildNumber number) const {
  for (const auto& child : children_) {
    if (child->number == number && number != 0) return child->pid;
  }
  return 0;
}

void Instance::SaveCounters() {
  CollectCounters();
  if (record_.valid()) UpdateRecord(record_.span(), counters_);
}

void Instance::CollectCounters() {
  counters_.epoch = epoch_;
  counters_.policy = supervision_.policy.Save();
  counters_.denied = supervision_.replacement == Replacement::kDenied;
  counters_.children.clear();
  for (const auto& child : children_) {
    if (!child->lost) counters_.children.push_back({child->number, child->pid});
  }
  // Until then, what an earlier launcher has recorded stays.
  if (backend_.has_value() && backend_->begun()) {
    counters_.backend = backend_->recorded();
  }
}

void Instance::Report(std::string type, int pid, std::string cause, uint64_t us,
                      std::string detail) {
  LaunchEvent event;
  event.type = std::move(type);
  event.instance = spec_.name;
  event.pid = pid;
  event.cause = std::move(cause);
  event.microseconds = us;
  event.detail = std::move(detail);
  host_.Report(std::move(event));
}

void Instance::ReportVmm(const std::string& type, int pid, std::string detail) {
  const std::optional<uint64_t> left_out = vmm_events_.Admit();
  if (!left_out.has_value()) return;
  Report(type, pid, "", 0, detail + LogLimiter::LeftOutText(*left_out));
}

}  // namespace holdfast::launcher
