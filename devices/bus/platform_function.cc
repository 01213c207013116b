#include "devices/bus/platform_function.h"

#include <utility>

#include "base/status_macros.h"

namespace holdfast {
PlatformFunction::PlatformFunction(PlatformState state,
                                   PlatformServices services)
    : state_(std::move(state)),
      services_(std::move(services)),
      dma_(*services_.dma, [this] {
        return work_.CutOff()
                   ? absl::UnavailableError("platform: the guest has reset it")
                   : absl::OkStatus();
      }) {
  work_.SetBank(*state_.bank(platform::kInternal));
  for (const RegisterFile& file : state_.spec().regions()) {
    regions_.push_back({file.size(), true, true, {}});
  }
  for (const bool level : state_.spec().lines()) irqs_.push_back({1, level});
}

absl::StatusOr<std::unique_ptr<PlatformFunction>> PlatformFunction::Create(
    PlatformState state, const Schema& stored, PlatformServices services,
    const MakeDevice& make) {
  if (services.irqs == nullptr || services.dma == nullptr) {
    return absl::InvalidArgumentError(
        "platform: no interrupts or no DMA given");
  }
  RETURN_IF_ERROR(state.Bind(stored));
  std::unique_ptr<PlatformFunction> function(
      new PlatformFunction(std::move(state), std::move(services)));
  function->schema_ = stored;
  ASSIGN_OR_RETURN(function->device_, make(*function));
  return function;
}

PlatformFunction::~PlatformFunction() = default;

absl::Status PlatformFunction::Start(StateBank& bank,
                                     absl::Span<uint8_t> areas) {
  RETURN_IF_ERROR(state_.spec().areas().CheckMemory("platform", areas));
  keeper_.TakeOver(*state_.bank(platform::kInternal), bank, [this, areas] {
    areas_ = areas;
    device_->OnTakeOver();
  });
  return Transact([this](StateTxn& txn, PlatformTxn& device) {
    keeper_.MakeReady(txn, [&] { ResetIn(txn, device); });
    device_->OnResourceChanged(device);
    return absl::OkStatus();
  });
}

absl::Status PlatformFunction::ResourceChanged() {
  return Transact([this](StateTxn&, PlatformTxn& device) {
    device_->OnResourceChanged(device);
    return absl::OkStatus();
  });
}

// One transaction, and the signals that follow its commit.
absl::Status PlatformFunction::Transact(Change change) {
  uint32_t levels = 0;
  uint32_t fresh = 0;
  WorkKeeper::View work;
  bool same = false;  // As what the last transaction made known.
  return keeper_.Transact(
      [&](StateTxn& txn) -> absl::Status {
        const auto before =
            static_cast<uint32_t>(state_.Get(txn, platform::kLevels));
        PlatformTxn device(state_, txn, before);
        RETURN_IF_ERROR(change(txn, device));
        levels = device.levels();
        fresh = device.pulses() | (levels & ~before);
        const bool changed = txn.dirty() || fresh != 0 || levels != before;
        same = !changed && keeper_.resumed();
        if (changed) {
          state_.Set(txn, platform::kLevels, levels);
          state_.Set(txn, platform::kUnsent,
                     fresh | (keeper_.resumed() ? 0 : Unsent(txn)));
        }
        work = work_.Look(txn);
        return absl::OkStatus();
      },
      [&] {
        if (same) return;
        levels_.store(levels);
        work_.Publish(work);
        Signal(fresh);
      });
}

void PlatformFunction::Signal(uint32_t lines) {
  for (uint32_t line = 0; line < irqs_.size(); ++line) {
    if ((lines >> line & 1) != 0) services_.irqs->Signal(line, 0);
  }
}

absl::Status PlatformFunction::CheckRange(uint32_t region, uint64_t offset,
                                          uint64_t size) const {
  RETURN_IF_ERROR(keeper_.CheckRange(regions_, region, offset, size));
  return keeper_.CheckSize(size);
}

absl::Status PlatformFunction::Read(AccessId id, uint32_t region,
                                    uint64_t offset, absl::Span<uint8_t> out) {
  RETURN_IF_ERROR(CheckRange(region, offset, out.size()));
  if (out.empty()) return absl::OkStatus();
  return Transact([&](StateTxn& txn, PlatformTxn& device) {
    return keeper_.Read(txn, id, out, [&] {
      return state_.bank(region)->Read(
          txn, offset, out, [&](const RegRead& read) {
            return keeper_.Blame(device_->OnRead(read, device));
          });
    });
  });
}

absl::Status PlatformFunction::Write(AccessId id, uint32_t region,
                                     uint64_t offset,
                                     absl::Span<const uint8_t> bytes) {
  RETURN_IF_ERROR(CheckRange(region, offset, bytes.size()));
  if (bytes.empty()) return absl::OkStatus();
  return Transact([&](StateTxn& txn, PlatformTxn& device) {
    return keeper_.Write(txn, id, [&] {
      return state_.bank(region)->Write(
          txn, offset, bytes, [&](const RegWrite& write) {
            return keeper_.Blame(device_->OnWrite(write, device));
          });
    });
  });
}

void PlatformFunction::ResetIn(StateTxn& txn, PlatformTxn& device) {
  state_.Reset(txn);
  work_.Reset(txn);
  for (uint32_t line = 0; line < irqs_.size(); ++line) {
    device.SetLine(line, false);
  }
  device_->OnReset(device);
}

absl::Status PlatformFunction::Reset() {
  RETURN_IF_ERROR(Transact([this](StateTxn& txn, PlatformTxn& device) {
    ResetIn(txn, device);
    return absl::OkStatus();
  }));
  if (work_.active()) {
    return absl::UnavailableError("platform: work is being cut off");
  }
  return absl::OkStatus();
}

absl::Status PlatformFunction::RunWork() {
  return work_.Run(
      [this](WorkKeeper::Change change) {
        return Transact(
            [&](StateTxn& txn, PlatformTxn&) { return change(txn); });
      },
      [this](uint32_t work) {
        return keeper_.Blame(device_->OnWork(work, *this));
      });
}

void PlatformFunction::OnWorkCrash() {
  const uint32_t work = work_.Current();
  if (work != kMaxWorks) device_->OnCrash(work);
}

void PlatformFunction::OnUnmask(uint32_t irq, uint32_t vector) {
  if (irq < irqs_.size() && vector == 0 && (levels_.load() >> irq & 1) != 0) {
    services_.irqs->Signal(irq, 0);
  }
}

absl::Status PlatformFunction::Resume() {
  uint32_t unsent = 0;
  RETURN_IF_ERROR(Transact([&](StateTxn& txn, PlatformTxn& device) {
    // A level may have been masked and unmasked meanwhile.
    unsent = Unsent(txn) | device.levels();
    return absl::OkStatus();
  }));
  Signal(unsent);
  keeper_.SetResumed();
  return absl::OkStatus();
}

absl::Status PlatformFunction::Update(
    absl::FunctionRef<absl::Status(PlatformTxn&)> change) {
  return Transact([&](StateTxn& txn, PlatformTxn& device) -> absl::Status {
    RETURN_IF_ERROR(work_.CheckNotCutOff(txn));
    return change(device);
  });
}

}  // namespace holdfast
