#include "devices/virtio_pci/virtio_function.h"

#include <utility>

#include "base/status_macros.h"

namespace holdfast::virtio_pci {

absl::StatusOr<Schema> VirtioFunction::StateSchema(const VirtioSpec& spec) {
  ASSIGN_OR_RETURN(const PciSpec pci_spec, VirtioPciDevice::Spec(spec));
  ASSIGN_OR_RETURN(const PciState state, PciState::Create(pci_spec));
  return state.schema();
}

absl::StatusOr<std::unique_ptr<VirtioFunction>> VirtioFunction::Create(
    const VirtioSpec& spec, const Schema& stored, VirtioDevice& device,
    IrqSink& irqs, QueueExecutor& executor) {
  ASSIGN_OR_RETURN(const PciSpec pci_spec, VirtioPciDevice::Spec(spec));
  ASSIGN_OR_RETURN(PciState state, PciState::Create(pci_spec));
  std::unique_ptr<VirtioFunction> result(
      new VirtioFunction(spec, device, irqs, executor));
  PciServices services;
  services.irqs = &irqs;
  services.dma = &result->no_dma_;
  const auto make =
      [&](PciContext& context) -> absl::StatusOr<std::unique_ptr<PciDevice>> {
    auto registers =
        std::make_unique<VirtioPciDevice>(spec, device, executor, context);
    result->registers_ = registers.get();
    return registers;
  };
  ASSIGN_OR_RETURN(
      result->function_,
      PciFunction::Create(std::move(state), stored, std::move(services), make));
  return result;
}

absl::Status VirtioFunction::Change(absl::FunctionRef<void(PciTxn&)> change) {
  return registers_->context().Update([&](PciTxn& txn) {
    change(txn);
    return absl::OkStatus();
  });
}

absl::Status VirtioFunction::Read(AccessId id, uint32_t region, uint64_t offset,
                                  absl::Span<uint8_t> out) {
  RETURN_IF_ERROR(function_->Read(id, region, offset, out));
  constexpr uint64_t kAt = kCommonOffset + kDeviceStatus.offset();
  // A driver that has read 0 after its reset uses its memory for something
  // else (4.1.4.3.2); until then any other value has it wait.
  if (region == kBar && offset <= kAt && kAt - offset < out.size() &&
      out[kAt - offset] == 0 && executor_.IsOwedAnswers()) {
    out[kAt - offset] = kNeedsReset;
  }
  return absl::OkStatus();
}

absl::Status VirtioFunction::Write(AccessId id, uint32_t region,
                                   uint64_t offset,
                                   absl::Span<const uint8_t> bytes) {
  if (region == kBar && !bytes.empty() &&
      registers_->InConfig(offset, bytes.size())) {
    return WriteConfig(static_cast<uint32_t>(offset - kConfigOffset), bytes);
  }
  RETURN_IF_ERROR(function_->Write(id, region, offset, bytes));
  // Command, MSI-X control and table have their say in routes.
  if (region != kBar) registers_->MarkChanged();
  return Settle();
}

absl::Status VirtioFunction::Reset() {
  RETURN_IF_ERROR(function_->Reset());
  return Settle();
}

absl::Status VirtioFunction::Resume() {
  RETURN_IF_ERROR(function_->Resume());
  RETURN_IF_ERROR(Settle());
  // What changed while nobody looked.
  return ConfigChanged(/*asked=*/false);
}

absl::Status VirtioFunction::InterruptQueue(uint16_t queue) {
  return Change([&](PciTxn& txn) { registers_->InterruptQueue(txn, queue); });
}

absl::Status VirtioFunction::ConfigChanged(bool asked) {
  return Change([&](PciTxn& txn) { registers_->ShowConfig(txn, asked); });
}

absl::Status VirtioFunction::NeedsReset() {
  return Change([&](PciTxn& txn) { registers_->SetNeedsReset(txn); });
}

// The device sees what the driver wrote in one piece, as every protocol gives
// it. Repeated after a crash, like all that WriteConfig does.
absl::Status VirtioFunction::WriteConfig(uint32_t offset,
                                         absl::Span<const uint8_t> bytes) {
  const absl::Status written = device_.WriteConfig(offset, bytes);
  if (!written.ok()) return absl::InvalidArgumentError(written.message());
  return Change([&](PciTxn& txn) { registers_->ShowOwnConfig(txn); });
}

// Brings device and queues in line with the registers.
absl::Status VirtioFunction::Settle() {
  const bool has_table = irqs_.has_vector_table();
  if (settled_ && !registers_->TakeChanged()) return absl::OkStatus();
  DeviceView view;
  RETURN_IF_ERROR(
      Change([&](PciTxn& txn) { view = registers_->View(txn, has_table); }));
  RETURN_IF_ERROR(EndQueues(view));
  if (view.features_known && !features_told_) {
    device_.OnFeatures(view.features);
    features_told_ = true;
  }
  return StartQueues(view);
}

absl::Status VirtioFunction::EndQueues(const DeviceView& view) {
  const bool reset = settled_ && view.resets != resets_;
  for (uint16_t i = 0; i < spec_.queues().size(); ++i) {
    const bool goes_on = view.queues[i].runs && !reset;
    if (goes_on || queues_[i] == Queue::kEnded) continue;
    executor_.End(i);
    queues_[i] = Queue::kEnded;
  }
  settled_ = true;
  resets_ = view.resets;
  if (!reset) return absl::OkStatus();
  device_.Reset();
  features_told_ = false;
  return Change([&](PciTxn& txn) { registers_->ShowOwnConfig(txn); });
}

absl::Status VirtioFunction::StartQueues(const DeviceView& view) {
  bool failed = false;
  for (uint16_t i = 0; i < spec_.queues().size(); ++i) {
    const QueueView& queue = view.queues[i];
    if (queue.route != routes_[i]) {
      executor_.Route(i, queue.route);
      routes_[i] = queue.route;
    }
    if (!queue.runs || queues_[i] == Queue::kRuns ||
        queues_[i] == Queue::kFailed) {
      continue;
    }
    const absl::Status started = executor_.Start(i, queue.ring);
    queues_[i] = started.ok() ? Queue::kRuns : Queue::kFailed;
    if (started.ok()) continue;
    log_.Warning("queue ", i, " cannot run: ", started.message());
    failed = true;
  }
  return failed ? NeedsReset() : absl::OkStatus();
}

}  // namespace holdfast::virtio_pci
