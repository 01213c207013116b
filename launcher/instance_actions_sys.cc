// The part of Instance that performs the supervisor's actions.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/handoff.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/instance_sys.h"
#include "launcher/process_sys.h"
#include "launcher/vmm_socket_sys.h"

namespace holdfast::launcher {
namespace {

// A child is never waited for: its channel is full only if it reads nothing at
// all, and then a deadline ends it.
absl::Status SendControl(BorrowedFd control, ControlMessage::Type type,
                         absl::Span<const int> fds) {
  ControlMessage message;
  message.type = type;
  return SendWithFds(
      control,
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(&message),
                          sizeof(message)),
      fds);
}

absl::Status MakeNonBlocking(BorrowedFd fd) {
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return ErrnoStatus("fcntl O_NONBLOCK");
  }
  return absl::OkStatus();
}

}  // namespace

void Instance::Perform(const SpawnChild& action) {
  if (absl::Status status = Spawn(action.child); !status.ok()) {
    Handle(StartFailed{action.child, std::string(status.message())});
  }
}

absl::Status Instance::Spawn(ChildNumber number) {
  store::Client* store = host_.store();
  if (store == nullptr) return absl::UnavailableError("no store runs");
  if (!filters_loaded_) {
    if (!spec_.policy.empty()) {
      RETURN_IF_ERROR(host_.policies().Open(spec_.policy, O_RDONLY).status());
    }
    ASSIGN_OR_RETURN(filters_, LoadFilters(spec_.policy, host_.policy_dirs()));
    filters_loaded_ = true;
  }
  // Anew for each child: the operator may have put a better program there.
  ASSIGN_OR_RETURN(const UniqueFd program,
                   host_.binaries().Open(spec_.binary, O_PATH));
  ASSIGN_OR_RETURN(SpawnedChild spawned,
                   SpawnDevice(spec_, program, segment_, filters_, group_));
  degraded_ = std::move(spawned.degraded);
  PutStoreBefore();
  auto owned = std::make_unique<Child>();
  Child& child = *owned;
  child.number = number;
  child.pid = spawned.pid;
  child.pidfd = std::move(spawned.pidfd);
  child.listener = std::move(spawned.listener);
  child.control = std::move(spawned.control);
  host_.TakeExitStatus(child.pid);  // Of an earlier process of this number.
  children_.push_back(std::move(owned));
  absl::Status status = MakeNonBlocking(child.control);
  if (status.ok() && !child.listener.valid() && host_.listener_fence()) {
    status = absl::InternalError("the child has no seccomp listener");
  }
  if (status.ok()) status = AddToStore(*store, child, spawned.store_channel, 0);
  if (!status.ok()) {
    // The supervisor hears StartFailed; what is left is to reap it.
    child.lost = true;
    SendSignal(child.pidfd, SIGKILL).IgnoreError();
    return status;
  }
  SaveCounters();
  Report("started", child.pid, "", 0, "");
  return absl::OkStatus();
}

void Instance::PutStoreBefore() {
  const absl::Status status = host_.PutStoreBefore(spec_.realtime_priority);
  if (status.ok()) return;
  std::string degraded = absl::StrCat(
      "degraded: real-time priority of the store: ", status.message());
  if (std::find(degraded_.begin(), degraded_.end(), degraded) ==
      degraded_.end()) {
    degraded_.push_back(std::move(degraded));
  }
}

absl::Status Instance::AddToStore(store::Client& store, Child& child,
                                  BorrowedFd channel, uint64_t flags) {
  store::Client::NewChild added;
  added.id = child.number;
  added.pid = static_cast<uint32_t>(child.pid);
  added.flags = flags;
  added.epoch = flags == 0 ? 0 : epoch_;
  added.channel = channel;
  added.pidfd = child.pidfd;
  added.control = child.control;
  // Without a listener CreateInstance has chosen the pidfd for the fence, and
  // the store only needs something in this place.
  added.seccomp_listener = child.listener.valid() ? BorrowedFd(child.listener)
                                                  : BorrowedFd(child.pidfd);
  return store.AddChild(id_, added);
}

void Instance::Perform(const StopChild& action) {
  Child* child = Find(action.child);
  if (child == nullptr) return;
  const absl::Status status =
      SendControl(child->control, ControlMessage::Type::kStop, {});
  // It is dying, or does not listen: the deadline ends it.
  if (!status.ok()) LogWarning("stop ", spec_.name, ": ", status.message());
}

absl::Status Instance::Resize() {
  if (stopping()) {
    return absl::FailedPreconditionError(
        absl::StrCat(spec_.name, " is being stopped"));
  }
  Child* const active = Find(supervision_.active);
  // One that makes room may not live to read it.
  const bool leaves = supervision_.active == supervision_.retiring;
  if (active == nullptr || leaves) return NoProcess("active");
  // The standby first: it answers for what the active one does not live to do.
  constexpr auto kType = ControlMessage::Type::kResourceChanged;
  if (const Child* spare = Find(supervision_.spare); spare != nullptr) {
    const absl::Status status = SendControl(spare->control, kType, {});
    if (!status.ok()) LogWarning("resize ", spec_.name, ": ", status.message());
  }
  const absl::Status status = SendControl(active->control, kType, {});
  // Its loss is about to be heard of.
  if (absl::IsFailedPrecondition(status)) return NoProcess("active");
  if (!status.ok()) {
    return absl::Status(
        status.code(),
        absl::StrCat(spec_.name, ": its active process (pid ", active->pid,
                     ") takes no message (", status.message(),
                     "): holdfast restart ", spec_.name));
  }
  Report("resource-changed", active->pid, "", 0, "");
  return absl::OkStatus();
}

void Instance::Perform(const KillChild& action) {
  Child* child = Find(action.child);
  if (child == nullptr) return;
  const absl::Status status = SendSignal(child->pidfd, SIGKILL);
  if (!status.ok()) LogError("kill ", spec_.name, ": ", status.message());
}

void Instance::Perform(const DemoteChild& action) {
  const Child* child = Find(action.child);
  // A process that has ended wholly may have left its number to another.
  if (child == nullptr || child->pid == 0 || HasEnded(child->pidfd)) return;
  Demote(child->pid);
}

void Instance::Perform(const HoldPromotion& action) {
  if (host_.store() == nullptr) return;  // Redeposit says it again.
  const absl::Status status = host_.store()->HoldPromotion(id_, action.hold);
  if (!status.ok()) LogWarning("hold ", spec_.name, ": ", status.message());
}

void Instance::Perform(const ArmTimer& action) {
  timers_[static_cast<size_t>(action.timer)] = Now() + action.delay;
}

void Instance::Perform(const EmitEvent& action) {
  if (absl::StartsWith(action.type, "vmm-")) {
    return ReportVmm(action.type, PidOf(action.child), action.detail);
  }
  Report(action.type, PidOf(action.child), "",
         action.type == "promoted" ? promotion_us_ : 0, action.detail);
}

void Instance::Perform(const KeepConnection&) {
  if (host_.store() == nullptr) return;
  absl::StatusOr<UniqueFd> connection =
      host_.store()->GetSlot(id_, store::kSlotConnection);
  // It may be gone again.
  if (connection.ok()) connection_ = *std::move(connection);
}

void Instance::Perform(const DropConnection&) { connection_.Reset(); }

void Instance::Perform(const Redeposit& action) {
  const absl::Status status = RedepositAll(action.hold);
  if (status.ok()) {
    Report("redeposited", 0, "", 0, "");
  } else {
    Handle(ResourceFailure{std::string(status.message())});
  }
}

absl::Status Instance::RedepositAll(bool hold) {
  store::Client* store = host_.store();
  if (store == nullptr) return absl::UnavailableError("no store runs");
  PutStoreBefore();
  RETURN_IF_ERROR(Deposit(*store));
  if (hold) RETURN_IF_ERROR(store->HoldPromotion(id_, true));
  // The active child first: what it deposits is the truth.
  for (ChildNumber number : {supervision_.active, supervision_.spare}) {
    Child* child = Find(number);
    if (child == nullptr || child->lost) continue;
    RETURN_IF_ERROR(Reattach(*store, *child, number == supervision_.active));
  }
  // With no child left to deposit it, ours is the last duplicate.
  if (supervision_.active == 0 && supervision_.spare == 0 &&
      connection_.valid()) {
    RETURN_IF_ERROR(store->SetConnection(id_, connection_));
  }
  if (spec_.socket_path.empty()) return absl::OkStatus();
  if (!listener_.valid()) {
    // Adopted from an earlier launcher; the store had the last duplicate.
    ASSIGN_OR_RETURN(listener_, MakeVmmSocket(spec_));
  }
  return store->SetListener(id_, listener_);
}

absl::Status Instance::Reattach(store::Client& store, Child& child,
                                bool active) {
  ASSIGN_OR_RETURN(auto channel, SeqpacketPair());
  const uint64_t flags =
      store::kAddReattached | (active ? store::kAddActive : 0);
  RETURN_IF_ERROR(AddToStore(store, child, channel.first, flags));
  const int fd = channel.second.get();
  const absl::Status status =
      SendControl(child.control, ControlMessage::Type::kStoreChannel, {&fd, 1});
  // A child that is gone is told by the store's fence.
  if (!status.ok()) LogWarning("reattach ", spec_.name, ": ", status.message());
  return absl::OkStatus();
}

void Instance::Perform(const CloseInstance&) {
  if (host_.store() != nullptr) {
    const absl::Status status = host_.store()->RemoveInstance(id_);
    if (!status.ok()) LogWarning("remove ", spec_.name, ": ", status.message());
  }
  listener_.Reset();
  connection_.Reset();
  if (!spec_.socket_path.empty()) unlink(spec_.socket_path.c_str());
  // Last, so that the keeper's end was not taken for the back-end's fault.
  if (backend_.has_value()) backend_->Handle(backend::StopRequested{});
  Report("stopped", 0, "", 0, "");
  stopped_ = true;
}

}  // namespace holdfast::launcher
