// The part of Instance that takes over what an earlier launcher left.

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "launcher/instance_sys.h"
#include "launcher/process_sys.h"

namespace holdfast::launcher {

absl::StatusOr<std::unique_ptr<Instance>> Instance::Adopt(
    InstanceHost& host, store::Client::InstanceInfo info,
    std::vector<store::Client::ChildInfo> children,
    const std::vector<store::Slot>& slots) {
  if (!info.blob.valid() || !IsSealedAgainstShrinking(info.blob)) {
    return absl::DataLossError("the instance has no record in the store");
  }
  ASSIGN_OR_RETURN(Mapping record,
                   MapShared(info.blob, 0, kRecordSize, MapAccess::kReadWrite));
  ASSIGN_OR_RETURN(ParsedRecord parsed, ReadRecord(record.span()));
  std::unique_ptr<Instance> instance(
      new Instance(host, info.id, std::move(parsed.spec)));
  instance->counters_ = std::move(parsed.counters);
  instance->record_ = std::move(record);
  instance->record_fd_ = std::move(info.blob);
  instance->segment_ = std::move(info.segment);
  instance->MakeGroup();
  instance->epoch_ = info.epoch;
  instance->resources_.resize(instance->spec_.resources.size());
  // The store has promoted without us meanwhile.
  if (instance->counters_.epoch != 0 &&
      info.epoch > instance->counters_.epoch) {
    instance->counters_.recoveries += info.epoch - instance->counters_.epoch;
  }
  instance->supervision_.policy.Restore(instance->counters_.policy);
  Adopted adopted;
  adopted.denied = instance->counters_.denied;
  adopted.next_child = instance->counters_.next_child;
  for (store::Client::ChildInfo& found : children) {
    auto child = std::make_unique<Child>();
    child->number = found.id;
    child->pid = static_cast<int>(found.pid);
    child->pidfd = std::move(found.pidfd);
    child->control = std::move(found.control);
    ASSIGN_OR_RETURN(child->listener,
                     host.store()->GetSeccompListener(info.id, found.id));
    adopted.next_child = std::max(adopted.next_child, found.id + 1);
    if (found.dying) adopted.dying.push_back(found.id);
    if (found.state == store::ChildState::kActive) {
      adopted.active = found.id;
    } else {
      adopted.spare = found.id;
      adopted.spare_ready = found.state == store::ChildState::kStandby;
    }
    instance->children_.push_back(std::move(child));
  }
  std::vector<UniqueFd> ends(store::kBackendResourceCount);
  for (store::Slot slot : slots) {
    ASSIGN_OR_RETURN(UniqueFd fd, host.store()->GetSlot(info.id, slot));
    if (slot == store::kSlotConnection) {
      instance->connection_ = std::move(fd);
      instance->supervision_.vmm_connected = true;
      continue;
    }
    const size_t index = slot - store::kSlotFirstResource;
    if (index < instance->resources_.size()) {
      instance->resources_[index] = std::move(fd);
    } else if (index - instance->resources_.size() < ends.size()) {
      ends[index - instance->resources_.size()] = std::move(fd);
    }
  }
  instance->MakeBackend();
  instance->AdoptLost(adopted);
  instance->Handle(adopted);
  instance->AdoptBackend(std::move(ends));
  if (instance->counters_.stopping) instance->Handle(StopRequested{});
  return instance;
}

void Instance::AdoptLost(Adopted& adopted) {
  for (const RecordedChild& recorded : counters_.children) {
    if (Find(recorded.number) != nullptr) continue;
    auto child = std::make_unique<Child>();
    child->number = recorded.number;
    child->pid = recorded.pid;
    child->lost = child->ended = true;
    child->planned = counters_.stopping;
    adopted.next_child = std::max(adopted.next_child, recorded.number + 1);
    if (!child->planned) adopted.lost.push_back(recorded.number);
    children_.push_back(std::move(child));
    retry_causes_ = Now();
  }
}

}  // namespace holdfast::launcher
