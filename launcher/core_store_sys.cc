// The part of Core that starts, adopts, watches and replaces holdfast-store.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/scheduling_sys.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "launcher/core_sys.h"
#include "launcher/policy_filters_sys.h"
#include "launcher/process_sys.h"
#include "launcher/spawn_sys.h"
#include "launcher/status_field.h"

namespace holdfast::launcher {
namespace {

// No instance can be called so.
constexpr char kStoreGroup[] = "_store";

constexpr absl::Duration kStoreCheckInterval = absl::Seconds(1);

}  // namespace

absl::Status Core::StartStore() {
  ASSIGN_OR_RETURN(auto channel, SeqpacketPair());
  const absl::StatusOr<PolicyFilters> filters =
      LoadFilters(options_.store_policy, options_.policy_dirs);
  if (!filters.ok()) return WithField("--store-policy", filters.status());
  absl::StatusOr<SpawnedChild> child =
      SpawnStore(options_.store, options_.uid_base, channel.second, *filters,
                 start_.cgroups.Make(kStoreGroup, {}));
  if (!child.ok()) return WithField("--store", child.status());
  Custody custody;
  custody.link = std::move(channel.first);
  custody.store_link = std::move(channel.second);
  custody.store_pidfd = std::move(child->pidfd);
  custody.store_pid = child->pid;
  custody.specs_run = custody_.specs_run;
  // Before anything is put into the store: from here on it outlives us.
  RETURN_IF_ERROR(SendCustody(start_.parent_channel, custody));
  custody_ = std::move(custody);
  ASSIGN_OR_RETURN(Custody copy, custody_.Duplicate());
  store_ = std::make_unique<store::Client>(std::move(copy.link));
  store_restart_.reset();
  store_record_.degraded = std::move(child->degraded);
  ReportOwn("store-started", custody_.store_pid, "",
            absl::StrJoin(store_record_.degraded, "; "));
  return absl::OkStatus();
}

absl::Status Core::AdoptFromStore() {
  ASSIGN_OR_RETURN(Custody copy, custody_.Duplicate());
  store_ = std::make_unique<store::Client>(std::move(copy.link));
  absl::StatusOr<store::Client::Inventory> inventory =
      store_->Hello(static_cast<uint64_t>(UnixNs()));
  if (!inventory.ok()) {
    store_.reset();
    return inventory.status();
  }
  AdoptInstances(*std::move(inventory));
  if (options_.store_policy.empty()) {
    store_record_.degraded = {"degraded: startup filter: none given"};
  }
  // This core may be forked by a parent that came after the store.
  return SendCustody(start_.parent_channel, custody_);
}

void Core::AdoptInstances(store::Client::Inventory inventory) {
  for (store::Client::InstanceInfo& info : inventory.instances) {
    const store::InstanceId id = info.id;
    const std::string name = info.name;
    next_instance_ = std::max(next_instance_, id + 1);
    std::vector<store::Client::ChildInfo> children;
    for (store::Client::ChildInfo& child : inventory.children) {
      if (child.instance == id) children.push_back(std::move(child));
    }
    std::vector<store::Slot> slots;
    for (const store::Client::SlotInfo& slot : inventory.slots) {
      if (slot.instance == id) slots.push_back(slot.slot);
    }
    const bool empty = children.empty();
    absl::StatusOr<std::unique_ptr<Instance>> instance =
        Instance::Adopt(*this, std::move(info), std::move(children), slots);
    if (instance.ok()) {
      instances_.push_back(*std::move(instance));
      continue;
    }
    // The core before died between the first and the last of its requests.
    ReportOwn("adoption-failed", 0, "",
              absl::StrCat(name, ": ", instance.status().message()));
    if (empty) store_->RemoveInstance(id).IgnoreError();
  }
}

absl::Status Core::PutStoreBefore(uint32_t realtime_priority) {
  if (realtime_priority == 0 || HasEnded(custody_.store_pidfd)) {
    return absl::OkStatus();
  }
  return RaiseToRealtime(custody_.store_pid,
                         static_cast<int>(realtime_priority) + 1);
}

void Core::ReadStoreEvents() {
  if (store_ == nullptr) return;
  const absl::Status status = store_->ReadEvents();
  while (std::optional<store::Message> event = store_->NextEvent()) {
    if (event->type == store::Type::kEventsLost) {
      // A fresh core takes the inventory, which is newer than any event.
      end_ = CoreEnd::kAgain;
      return;
    }
    for (const auto& instance : instances_) {
      if (instance->id() == event->instance) instance->OnStoreEvent(*event);
    }
  }
  if (!status.ok() || HasEnded(custody_.store_pidfd)) LoseStore();
}

void Core::LoseStore() {
  // The channel may have failed while the process lives.
  SendSignal(custody_.store_pidfd, SIGKILL).IgnoreError();
  store_.reset();
  const std::optional<std::string> cause = TakeExitCause(custody_.store_pidfd);
  ++store_record_.lost;
  store_record_.last_loss = cause.value_or("unknown");
  ReportOwn("store-lost", custody_.store_pid, cause.value_or(""), "");
  for (const auto& instance : instances_) instance->OnStoreLost();
  store_restart_ = Now() + store_policy_.OnLoss(Now()).delay;
}

void Core::RestartStoreIfDue() {
  if (!store_restart_.has_value() || *store_restart_ > Now()) return;
  if (absl::Status status = StartStore(); !status.ok()) {
    ReportOwn("store-start-failed", 0, "", std::string(status.message()));
    store_restart_ = Now() + store_policy_.OnLoss(Now()).delay;
    return;
  }
  for (const auto& instance : instances_) instance->Handle(StoreBack{});
}

// A store that hangs promotes nobody: asked for something that there is not, a
// live one says so within microseconds.
void Core::CheckStoreIfDue() {
  if (store_ == nullptr || store_check_ > Now()) return;
  const absl::Status status =
      store_->GetSlot(/*instance=*/0, store::kSlotConnection).status();
  store_check_ = Now() + kStoreCheckInterval;
  if (!absl::IsDeadlineExceeded(status)) return;
  ReportOwn("store-hung", custody_.store_pid, "", "");
  LoseStore();
}

void Core::EndStore() {
  store_.reset();
  if (!custody_.valid()) return;
  SendSignal(custody_.store_pidfd, SIGKILL).IgnoreError();
  // Reaped here or, if it was adopted, by the parent.
  while (!HasEnded(custody_.store_pidfd)) usleep(1000);
  TakeExitCause(custody_.store_pidfd);
  const bool specs_run = custody_.specs_run;
  custody_ = Custody();
  custody_.specs_run = specs_run;
}

void Core::KillLeftBehind() {
  for (int pid : ChildrenOf(getppid())) {
    if (pid == getpid()) continue;
    ReportOwn("killed", pid, "", "left behind when core and store died");
    kill(pid, SIGKILL);
  }
}

}  // namespace holdfast::launcher
