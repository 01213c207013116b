// Features (section 5.21).
#include <algorithm>

#include "base/status_macros.h"
#include "devices/pci_nvme/events.h"
#include "devices/pci_nvme/pci_nvme.h"

namespace holdfast::nvme {
namespace {

constexpr uint32_t kSave = 1u << 31;  // Of Set Features, cdw10.

}  // namespace

// Where its value is kept; nothing: nowhere, it is what it is. Of temperatures
// only those of the whole controller are there, from above and from below.
absl::optional<size_t> PciNvme::PlaceOf(Feature feature, uint32_t value) {
  if (feature == Feature::kInterruptVector) return absl::nullopt;
  if (feature == Feature::kTemperatureThreshold && (value >> 16 & 0xf) != 0) {
    return absl::nullopt;
  }
  if (feature == Feature::kTemperatureThreshold && (value >> 20 & 3) == 1) {
    return kUnderTemperature;
  }
  return static_cast<size_t>(feature);
}

absl::StatusOr<PciNvme::Outcome> PciNvme::GetFeatures(const Command& command,
                                                      PciContext& context) {
  const auto feature = static_cast<Feature>(command.cdw10 & 0xff);
  const uint32_t select = command.cdw10 >> 8 & 7;
  if (CheckFeature(feature, command.cdw11) == Status::kInvalidField) {
    return Outcome{Status::kInvalidField};
  }
  constexpr uint32_t kDefault = 1;
  constexpr uint32_t kSaved = 2;
  constexpr uint32_t kSupported = 3;
  if (select > kSupported) return Outcome{Status::kInvalidField};
  if (select == kSupported) return Outcome{Status::kSuccess, 1u << 2};
  if (feature == Feature::kQueues) {
    return Outcome{Status::kSuccess, (io_queues_ - 1u) * 0x10001u};
  }
  if (feature == Feature::kInterruptVector) {
    // Never coalesced.
    return Outcome{Status::kSuccess, (command.cdw11 & 0xffff) | 1u << 16};
  }
  FeatureValues values = DefaultFeatures();
  if (select != kDefault && select != kSaved) {
    RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
      values = txn.Get(state_.features);
      return absl::OkStatus();
    }));
  }
  const absl::optional<size_t> place = PlaceOf(feature, command.cdw11);
  return Outcome{Status::kSuccess, place.has_value() ? values[*place] : 0};
}

// kInvalidField: there is no such feature, or not this value of it.
Status PciNvme::CheckFeature(Feature feature, uint32_t value) const {
  switch (feature) {
    case Feature::kArbitration:
    case Feature::kTemperatureThreshold:
    case Feature::kErrorRecovery:
    case Feature::kWriteCache:
    case Feature::kQueues:
    case Feature::kInterruptCoalescing:
    case Feature::kPowerManagement:
    case Feature::kWriteAtomicity:
    case Feature::kAsyncEvents:
      return Status::kSuccess;
    case Feature::kInterruptVector:
      return (value & 0xffff) <= io_queues_ ? Status::kSuccess
                                            : Status::kInvalidField;
  }
  return Status::kInvalidField;
}

absl::StatusOr<PciNvme::Outcome> PciNvme::SetFeatures(const Command& command,
                                                      uint64_t counter,
                                                      PciContext& context) {
  const auto feature = static_cast<Feature>(command.cdw10 & 0xff);
  const uint32_t value = command.cdw11;
  const Status status = CheckFeature(feature, value);
  if (status != Status::kSuccess) return Outcome{status};
  if ((command.cdw10 & kSave) != 0) return Outcome{Status::kFeatureNotSaveable};
  if (feature == Feature::kQueues) {
    const auto lives = [](const auto& queue) { return queue.live; };
    if (std::any_of(sqs_.begin() + 1, sqs_.end(), lives) ||
        std::any_of(cqs_.begin() + 1, cqs_.end(), lives)) {
      return Outcome{Status::kCommandSequence};
    }
    if ((value & 0xffff) == 0xffff || value >> 16 == 0xffff) {
      return Outcome{Status::kInvalidField};
    }
    return Outcome{Status::kSuccess, (io_queues_ - 1u) * 0x10001u};
  }
  // The only power state there is.
  if (feature == Feature::kPowerManagement && (value & 0x1f) != 0) {
    return Outcome{Status::kInvalidField};
  }
  const absl::optional<size_t> place = PlaceOf(feature, value);
  if (!place.has_value()) return Outcome{};
  if (feature == Feature::kWriteCache) {
    // What was completed so far is durable before the promise is made.
    // No command is between its write and its completion then.
    Gate::Alone alone(gate_);
    if ((value & 1) == 0) {
      const Status flushed = FlushAll();
      if (flushed != Status::kSuccess) return Outcome{flushed};
    }
    write_through_.store((value & 1) == 0);
  }
  return Once(counter, {}, context, [&](PciTxn& txn) {
    FeatureValues values = txn.Get(state_.features);
    values[*place] = value;
    txn.Set(state_.features, values);
    if (IsTooHotOrCold(values)) RaiseEvent(kTemperatureEvent, txn);
  });
}

}  // namespace holdfast::nvme
