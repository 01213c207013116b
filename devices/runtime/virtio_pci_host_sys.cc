#include "devices/runtime/virtio_pci_host_sys.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "devices/runtime/capabilities.h"
#include "devices/runtime/event_sys.h"
#include "devices/virtio_pci/virtio_pci_device.h"
#include "statestore/inflight.h"

namespace holdfast {

using virtio_pci::VirtioFunction;
using virtio_pci::VirtioPciDevice;

DeviceClass OverVfioUser(const VirtioClass& device_class) {
  DeviceClass result;
  result.options = device_class.options;
  result.protocol = "vfio-user";
  result.open = [device_class](const DeviceOptions& options)
      -> absl::StatusOr<std::unique_ptr<DeviceHost>> {
    ASSIGN_OR_RETURN(VirtioSpec spec, device_class.spec(options));
    return VirtioPciHost::Create(device_class, std::move(spec));
  };
  result.describe =
      [device_class](
          const DeviceOptions& options) -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const VirtioSpec spec, device_class.spec(options));
    ASSIGN_OR_RETURN(const PciSpec pci_spec, VirtioPciDevice::Spec(spec));
    return CapabilitiesJson(pci_spec);
  };
  return result;
}

absl::StatusOr<std::unique_ptr<DeviceHost>> VirtioPciHost::Create(
    const VirtioClass& device_class, VirtioSpec spec) {
  ASSIGN_OR_RETURN(Schema schema, VirtioFunction::StateSchema(spec));
  return std::unique_ptr<DeviceHost>(
      new VirtioPciHost(device_class, std::move(spec), std::move(schema)));
}

VirtioPciHost::VirtioPciHost(const VirtioClass& device_class, VirtioSpec spec,
                             Schema schema)
    : RegionHost(Asks::kMay, spec.compat_version(), spec.resources(),
                 std::move(schema)),
      class_(device_class),
      spec_(std::move(spec)) {}

// The executor's threads use the host.
VirtioPciHost::~VirtioPciHost() { executor_.reset(); }

absl::Status VirtioPciHost::AddTo(SegmentSpec& spec) const {
  RETURN_IF_ERROR(RegionHost::AddTo(spec));
  spec.queue_count = static_cast<uint16_t>(spec_.queues().size());
  for (const QueueSpec& queue : spec_.queues()) {
    spec.max_queue_size = std::max(spec.max_queue_size, queue.max_size);
  }
  spec.inflight_size =
      static_cast<uint32_t>(InflightRegionSize(spec.max_queue_size));
  return absl::OkStatus();
}

absl::Status VirtioPciHost::Build(const HostServices& services) {
  services_ = services;
  event_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  MakeHost(services);
  host().messages().UseEvent(event_);
  seen_.emplace(spec_.SeenBy(guest_version()));
  ASSIGN_OR_RETURN(device_, class_.make(*this));
  executor_ = std::make_unique<RingExecutor>(
      *seen_, *device_, *services.segment, host().irqs(), host().windows(),
      host().messages(), event_);
  ASSIGN_OR_RETURN(function_,
                   VirtioFunction::Create(*seen_, services.segment->schema(),
                                          *device_, host().irqs(), *executor_));
  host().SetWatcher(*this);
  return host().SetDevice(*function_);
}

absl::Status VirtioPciHost::Resume(Lane& lane, StateBank& state) {
  // As the driver may know of it: before the first answer.
  device_->OnResourceChanged();
  executor_->Hold();
  executor_->SetState(state);
  RETURN_IF_ERROR(function_->Start(state));
  RETURN_IF_ERROR(host().Resume(lane));
  executor_->Release();
  active_ = true;
  return absl::OkStatus();
}

void VirtioPciHost::Quiesce() {
  executor_->Hold();
  host().Quiesce();
}

void VirtioPciHost::NotifyConfigChange() {
  config_asked_.store(true);
  RaiseEvent(event_);
}

void VirtioPciHost::ResourceChanged() {
  device_->OnResourceChanged();
  NotifyConfigChange();
}

// What fails here has lost the state, which the next access finds, too.
void VirtioPciHost::OnEvent() {
  DrainEvent(event_);
  // Whoever takes over looks by itself.
  if (!active_) return;
  host().OnEvent();
  const uint64_t waiting = executor_->TakeWaiting();
  for (uint16_t i = 0; i < spec_.queues().size(); ++i) {
    if ((waiting >> i & 1) != 0) (void)function_->InterruptQueue(i);
  }
  if (config_asked_.exchange(false)) {
    (void)function_->ConfigChanged(/*asked=*/true);
  }
}

}  // namespace holdfast
