#include "statestore/store/store_sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/errno_status.h"
#include "base/log.h"

namespace holdfast::store {
namespace {

constexpr uint64_t kFenceSet = ~uint64_t{0};
constexpr int kRequestsPerTurn = 16;
constexpr uint64_t kRetryNs = uint64_t{Store::kRetryMs} * 1000000;

bool IsFence(Watch watch) {
  return watch == Watch::kListener || watch == Watch::kPidfd;
}

// The HUP of a seccomp listener is reported unasked. Its other events are the
// launcher's business.
uint32_t EventsOf(Watch watch) {
  return watch == Watch::kListener ? 0u : uint32_t{EPOLLIN};
}

// Whether what could not be sent may be sent later: the channel is full, or too
// many descriptors of this user are under way, which no channel tells the end
// of.
bool IsFull(IoResult result) {
  return result == IoResult::kAgain ||
         (result == IoResult::kError && errno == ETOOMANYREFS);
}

bool Control(BorrowedFd set, int operation, int fd, uint32_t events,
             uint64_t data) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = data;
  return epoll_ctl(set.get(), operation, fd, &event) == 0;
}

}  // namespace

absl::Status Store::Start(UniqueFd launcher, size_t max_instances) {
  if (absl::Status status = undertaker_.Start(); !status.ok()) return status;
  launcher_ = std::move(launcher);
  escrow_.LimitInstances(max_instances);
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return ErrnoStatus("epoll_create1");
  fences_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!fences_.valid()) return ErrnoStatus("epoll_create1");
  if (!Control(epoll_, EPOLL_CTL_ADD, fences_.get(), EPOLLIN, kFenceSet) ||
      !Control(epoll_, EPOLL_CTL_ADD, launcher_.get(), EPOLLIN,
               Pack({Watch::kLauncher, 0, 0, 0}))) {
    return ErrnoStatus("epoll_ctl of the launcher's channel");
  }
  return absl::OkStatus();
}

bool Store::RunOnce(int timeout_ms) {
  epoll_event events[kBatch];
  const bool retries = escrow_.paused() || escrow_.anyone_behind();
  const bool soon = retries && (timeout_ms < 0 || timeout_ms > kRetryMs);
  const int n =
      epoll_wait(epoll_.get(), events, kBatch, soon ? kRetryMs : timeout_ms);
  for (int i = 0; i < n; ++i) {
    HandleFences();
    if (events[i].data.u64 == kFenceSet) continue;
    const Key key = Unpack(events[i].data.u64);
    switch (key.watch) {
      case Watch::kLauncher:
        if (!HandleLauncher(events[i].events)) return false;
        break;
      case Watch::kVmmListener:
        HandleVmm(key);
        break;
      default:
        HandleChannel(key, events[i].events);
    }
  }
  if (escrow_.paused() || escrow_.anyone_behind()) Retry();
  UpdateLauncherEvents();
  return true;
}

void Store::HandleFences() {
  epoll_event events[kBatch];
  const int n = epoll_wait(fences_.get(), events, kBatch, 0);
  for (int i = 0; i < n; ++i) {
    actions_.Clear();
    escrow_.OnFence(Unpack(events[i].data.u64), MonotonicNs(), actions_);
    Perform();
  }
}

void Store::HandleChannel(Key key, uint32_t events) {
  if ((events & EPOLLOUT) != 0) CatchUp(key);
  if ((events & ~uint32_t{EPOLLOUT}) == 0) return;
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    const Handle channel = escrow_.ChannelOf(key);
    if (channel == kNoHandle) return;
    Incoming incoming;
    const IoResult result = Receive(BorrowedFd(channel), incoming);
    if (result == IoResult::kAgain) return;
    // kGone has size 0 and is handled as such; other errors are not known of
    // a connected socket and end the child just as well.
    if (result != IoResult::kDone) incoming.size = 0;
    actions_.Clear();
    escrow_.OnChild(key, incoming, MonotonicNs(), actions_);
    Perform();
    if (result != IoResult::kDone) return;
  }
}

void Store::HandleVmm(Key key) {
  actions_.Clear();
  const Handle listener = escrow_.OnKnock(key, actions_);
  Perform();
  if (listener == kNoHandle) return;
  const int vmm = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  const int error = errno;
  // The VMM has left, or somebody else took it.
  if (vmm < 0 && (error == EAGAIN || error == ECONNABORTED)) return;
  actions_.Clear();
  if (vmm >= 0) {
    escrow_.OnAccepted(key, vmm, MonotonicNs(), actions_);
  } else {
    if (!escrow_.paused()) retry_at_ = MonotonicNs() + kRetryNs;
    escrow_.OnAcceptFailed(key, error, actions_);
  }
  Perform();
}

void Store::Retry() {
  const uint64_t now = MonotonicNs();
  if (now < retry_at_) return;
  retry_at_ = now + kRetryNs;
  actions_.Clear();
  escrow_.OnRetry(actions_);
  Perform();
  const Tables& tables = escrow_.tables();
  for (const Instance& instance : tables.instances()) {
    for (size_t i = 0; i < kMaxChildrenPerInstance; ++i) {
      CatchUp(tables.KeyOf(instance, i, Watch::kChannel));
    }
  }
  actions_.Clear();
  escrow_.OnSilence(now, actions_);
  Perform();
}

void Store::CatchUp(Key key) {
  Action action;
  bool was_behind = false;
  while (escrow_.NextFor(key, action)) {
    was_behind = true;
    const IoResult result =
        Send(BorrowedFd(action.handle), action.message, action.fds);
    if (IsFull(result)) {
      WatchForRoom(action, result == IoResult::kAgain);
      return;
    }
    if (result != IoResult::kDone) {
      actions_.Clear();
      escrow_.OnSendFailed(key, result == IoResult::kGone, actions_);
      Perform();
      return;
    }
    escrow_.OnTaken(key, action.message, MonotonicNs());
  }
  if (was_behind) WatchForRoom(action, false);
}

void Store::WatchForRoom(const Action& to, bool wanted) {
  const uint32_t room = wanted ? uint32_t{EPOLLOUT} : 0u;
  Control(epoll_, EPOLL_CTL_MOD, to.handle, EventsOf(Watch::kChannel) | room,
          Pack(to.key));
}

bool Store::HandleLauncher(uint32_t events) {
  if ((events & EPOLLOUT) != 0) Flush();
  for (int i = 0; i < kRequestsPerTurn && !waiting(); ++i) {
    Incoming incoming;
    const IoResult result = Receive(launcher_, incoming);
    if (result == IoResult::kAgain) return true;
    if (result != IoResult::kDone) return false;
    actions_.Clear();
    escrow_.OnLauncher(incoming, MonotonicNs(), actions_);
    Perform();
    HandleFences();
  }
  return (events & EPOLLHUP) == 0 || !waiting();
}

void Store::Perform() {
  for (const Action& action : actions_) {
    switch (action.kind) {
      case Action::Kind::kSend:
        PerformSend(action);
        break;
      case Action::Kind::kTell:
        PerformTell(action);
        break;
      case Action::Kind::kKill:
        PerformKill(action);
        break;
      case Action::Kind::kWatch:
        PerformWatch(action);
        break;
      case Action::Kind::kUnwatch:
        Control(IsFence(action.key.watch) ? fences_ : epoll_, EPOLL_CTL_DEL,
                action.handle, 0, 0);
        break;
      case Action::Kind::kClose:
        if (!undertaker_.Bury(action.handle, action.closer)) {
          close(action.handle);
        }
        break;
      case Action::Kind::kInventory:
        inventory_ = true;
        cursor_ = Cursor();
        nonce_ = action.message.arg0;
        Flush();
        break;
    }
  }
  if (!any_failure_) return;
  any_failure_ = false;
  for (auto& instance : failures_) {
    for (Failure& failure : instance) {
      if (!std::exchange(failure.failed, false)) continue;
      actions_.Clear();
      escrow_.OnSendFailed(failure.key, failure.gone, actions_);
      Perform();  // Kills and tells, but sends to no child: no further level.
    }
  }
}

void Store::PerformSend(const Action& action) {
  Failure& failure = failures_[action.key.instance][action.key.child];
  if (failure.failed) return;  // Its order is broken: it gets nothing more.
  const bool behind = escrow_.IsBehind(action.key);
  const IoResult result =
      behind ? IoResult::kAgain
             : Send(BorrowedFd(action.handle), action.message, action.fds);
  if (IsFull(result) && escrow_.Defer(action, MonotonicNs())) {
    if (!behind) WatchForRoom(action, result == IoResult::kAgain);
  } else if (result != IoResult::kDone) {
    failure = {true, result == IoResult::kGone, action.key};
    any_failure_ = true;
  }
  if (action.message.type == Type::kPromote) promoted_at_ = MonotonicNs();
}

void Store::PerformKill(const Action& action) {
  const long result =
      syscall(SYS_pidfd_send_signal, action.handle, SIGKILL, nullptr, 0);
  // One that is dead already is as good as killed.
  kill_errno_ = result == 0 || errno == ESRCH ? 0 : errno;
}

void Store::PerformTell(const Action& action) {
  Message message = action.message;
  switch (action.stamp) {
    case Action::Stamp::kNone:
      break;
    case Action::Stamp::kPromotedAt:
      message.arg1 = promoted_at_;
      break;
    case Action::Stamp::kIfKillFailed:
      if (kill_errno_ == 0) return;
      [[fallthrough]];
    case Action::Stamp::kKillErrno:
      message.arg1 = static_cast<uint64_t>(kill_errno_);
      if (kill_errno_ != 0 && message.type == Type::kOk) {
        message.type = Type::kError;
        message.arg0 = static_cast<uint64_t>(Error::kSystem);
      }
      break;
  }
  if (waiting()) {
    Enqueue(message, action.fds);
    return;
  }
  switch (Send(launcher_, message, action.fds)) {
    case IoResult::kDone:
    case IoResult::kGone:  // The loop sees the HUP.
      break;
    case IoResult::kAgain:
      Enqueue(message, action.fds);
      break;
    case IoResult::kError: {
      Message error;
      error.type = Type::kError;
      error.tag = message.tag;
      error.arg0 = static_cast<uint64_t>(Error::kSystem);
      Send(launcher_, error, {});
      break;
    }
  }
}

void Store::PerformWatch(const Action& action) {
  const Watch watch = action.key.watch;
  if (watch == Watch::kVmmListener) {
    // Whoever else holds it may accept too: accept4() here must never block.
    const int flags = fcntl(action.handle, F_GETFL);
    fcntl(action.handle, F_SETFL, flags | O_NONBLOCK);
  }
  if (!Control(IsFence(watch) ? fences_ : epoll_, EPOLL_CTL_ADD, action.handle,
               EventsOf(watch), Pack(action.key))) {
    LogLine(LogSeverity::kError,
            "a descriptor of the launcher cannot be watched");
  }
}

void Store::Enqueue(const Message& message, const Handle (&fds)[2]) {
  Outbox::Entry entry;
  entry.message = message;
  for (size_t i = 0; i < 2; ++i) {
    // The table may close its own before this is sent.
    if (fds[i] != kNoHandle) {
      entry.fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
    }
  }
  if (outbox_.Push(entry)) return;
  for (Handle fd : entry.fds) {
    if (fd != kNoHandle) close(fd);
  }
}

void Store::Flush() {
  // The inventory first: what waits in the outbox came after its request.
  if (FlushInventory()) FlushOutbox();
}

bool Store::FlushInventory() {
  while (inventory_) {
    Cursor next = cursor_;
    Action action;
    const bool more = NextInventory(escrow_.tables(), next, action);
    if (!more) {
      action = Action();
      action.message.type = Type::kHelloDone;
      action.message.arg0 = nonce_;
    }
    action.message.tag = nonce_;
    if (Send(launcher_, action.message, action.fds) == IoResult::kAgain) {
      return false;
    }
    cursor_ = next;
    inventory_ = more;
  }
  return true;
}

bool Store::FlushOutbox() {
  while (!outbox_.empty()) {
    const Outbox::Entry& entry = outbox_.front();
    if (Send(launcher_, entry.message, entry.fds) == IoResult::kAgain) {
      return false;
    }
    for (Handle fd : entry.fds) {
      if (fd != kNoHandle) close(fd);
    }
    outbox_.Pop();
  }
  return true;
}

void Store::UpdateLauncherEvents() {
  if (waiting() == launcher_blocked_) return;
  launcher_blocked_ = waiting();
  Control(epoll_, EPOLL_CTL_MOD, launcher_.get(),
          launcher_blocked_ ? EPOLLOUT : EPOLLIN,
          Pack({Watch::kLauncher, 0, 0, 0}));
}

}  // namespace holdfast::store
