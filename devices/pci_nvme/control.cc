// The life of the controller: enabling, reset, shutdown (sections 3.1.5, 3.1.6
// and 7.6). Each step is a transaction; what it says of areas is made before.
#include "base/status_macros.h"
#include "devices/pci_nvme/pci_nvme.h"
#include "devices/pci_nvme/registers.h"

namespace holdfast::nvme {

PciNvme::FeatureValues PciNvme::DefaultFeatures() {
  FeatureValues features = {};
  const auto set = [&features](Feature feature, uint32_t value) {
    features[static_cast<size_t>(feature)] = value;
  };
  set(Feature::kArbitration, 0x06);
  set(Feature::kTemperatureThreshold, 343);  // Kelvin.
  set(Feature::kWriteCache, 1);
  return features;
}

// All that a reset of the controller ends.
void PciNvme::Forget(PciTxn& txn) {
  txn.Set(state_.phase, Phase::kDisabled);
  txn.Set(state_.sq_lives, Lives{});
  txn.Set(state_.cq_lives, Lives{});
  txn.Set(state_.features, DefaultFeatures());
  txn.Set(state_.events, 0);
  txn.Set(state_.done_counter, 0);
  txn.Set(state_.done_result, 0);
  txn.Set(state_.done_status, Status::kSuccess);
  txn.Set(kMaskSet, 0);
  txn.Set(kMaskClear, 0);
  txn.Set(kStatus, 0);
  txn.SetIntx(false);
}

absl::Status PciNvme::Settle(PciContext& context) {
  for (;;) {
    uint32_t configuration = 0;
    uint32_t status = 0;
    Phase phase = Phase::kDisabled;
    RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
      configuration = txn.Get(kConfiguration);
      status = txn.Get(kStatus);
      phase = txn.Get(state_.phase);
      return absl::OkStatus();
    }));
    if (phase == Phase::kStopping) {
      RETURN_IF_ERROR(Disable(context));
    } else if (phase == Phase::kDisabled && (configuration & kEnable) != 0 &&
               (status & kFatal) == 0) {
      RETURN_IF_ERROR(Enable(context));
    } else if (ShutdownOf(configuration) != 0 &&
               (status & kShutdownMask) != kShutdownComplete) {
      RETURN_IF_ERROR(ShutDown(context));
    } else {
      return absl::OkStatus();
    }
  }
}

absl::StatusOr<uint32_t> PciNvme::NextLife(PciContext& context) {
  uint32_t life = 0;
  RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
    life = txn.Get(state_.generation) + 1;
    return absl::OkStatus();
  }));
  return life == 0 ? 1 : life;  // 0 is no life.
}

absl::Status PciNvme::Enable(PciContext& context) {
  Gate::Alone alone(gate_);
  SubmissionConfig sq;
  CompletionConfig cq;
  bool supported = false;
  RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
    const uint32_t sizes = txn.Get(kAdminQueues);
    sq = {txn.Get(kAdminSq), (sizes & 0xfff) + 1, 0, identity_.fingerprint()};
    cq = {txn.Get(kAdminCq), (sizes >> 16 & 0xfff) + 1, 0, true};
    supported = IsSupported(txn.Get(kConfiguration));
    return absl::OkStatus();
  }));
  if (!supported || sq.size < 2 || cq.size < 2) return Fail(context);
  ASSIGN_OR_RETURN(const uint32_t life, NextLife(context));
  for (uint32_t nsid = 1; nsid <= disks_.size(); ++nsid) {
    log_.Know(nsid, disks_[nsid - 1]->blocks());
  }
  sqs_[0].queue.Format(life, sq);
  cqs_[0].queue.Format(life, cq);
  RETURN_IF_ERROR(context.Update([&](PciTxn& txn) {
    if (txn.Get(state_.phase) != Phase::kDisabled) return absl::OkStatus();
    Forget(txn);
    Lives lives = {};
    lives[0] = life;
    txn.Set(state_.sq_lives, lives);
    txn.Set(state_.cq_lives, lives);
    txn.Set(state_.generation, life);
    txn.Set(state_.phase, Phase::kEnabled);
    txn.Set(kStatus, kReady);
    return absl::OkStatus();
  }));
  return Attach(context);
}

// Alone: no command is being executed, and none will be. What a dead process
// had asked the VMM to write is written before the guest sees that it may use
// its memory again.
absl::Status PciNvme::Disable(PciContext& context) {
  Gate::Alone alone(gate_);
  RETURN_IF_ERROR(context.dma().AwaitForgotten());
  RETURN_IF_ERROR(context.Update([this](PciTxn& txn) {
    Forget(txn);
    return absl::OkStatus();
  }));
  DropQueues();
  return absl::OkStatus();
}

absl::Status PciNvme::ShutDown(PciContext& context) {
  {
    Gate::Alone alone(gate_);
    FlushAll();
  }
  return context.Update([](PciTxn& txn) {
    const uint32_t status = txn.Get(kStatus);
    txn.Set(kStatus, (status & ~kShutdownMask) | kShutdownComplete);
    return absl::OkStatus();
  });
}

absl::Status PciNvme::Fail(PciContext& context) {
  return context.Update([](PciTxn& txn) {
    txn.Set(kStatus, txn.Get(kStatus) | kFatal);
    return absl::OkStatus();
  });
}

}  // namespace holdfast::nvme
