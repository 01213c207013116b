#include "devices/bus/platform_function.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

// What the framework remembers: registers that no guest sees.
constexpr uint32_t kInternal = PlatformSpec::kMaxRegions;
constexpr size_t kMaxAccess = 64;  // Bytes: a cache line.
constexpr Reg64 kAccessId =
    Reg64{"access_id", 0x00, kReadWrite}.InBar(kInternal);
constexpr Reg32 kLevels = Reg32{"levels", 0x08, kReadWrite}.InBar(kInternal);
// Lines that may not have been signalled.
constexpr Reg32 kUnsent = Reg32{"unsent", 0x0c, kReadWrite}.InBar(kInternal);
constexpr Reg8 kReady = Reg8{"ready", 0x10, kReadWrite}.InBar(kInternal);
// What the last access with side effects returned.
constexpr Reg64 kAccessData = Reg64{"access_data", 0x40, kReadWrite}
                                  .Array(kMaxAccess / 8)
                                  .InBar(kInternal);

}  // namespace

absl::StatusOr<std::unique_ptr<PlatformFunction>> PlatformFunction::Describe(
    const PlatformSpec& spec) {
  if (spec.regions().empty() ||
      spec.regions().size() > PlatformSpec::kMaxRegions ||
      spec.lines().size() > PlatformSpec::kMaxLines) {
    return absl::InvalidArgumentError(absl::StrCat(
        "platform spec: ", spec.regions().size(), " regions and ",
        spec.lines().size(), " lines, limits are 1 to ",
        PlatformSpec::kMaxRegions, " and ", PlatformSpec::kMaxLines));
  }
  std::unique_ptr<PlatformFunction> result(new PlatformFunction());
  ASSIGN_OR_RETURN(result->schema_, spec.schema());
  const auto add = [&](std::string name, uint32_t region,
                       const RegisterFile& file) -> absl::Status {
    ASSIGN_OR_RETURN(RegisterBank bank,
                     RegisterBank::Create(std::move(name), region, file));
    RETURN_IF_ERROR(bank.AddFields(result->schema_));
    result->banks_[region] = std::make_unique<RegisterBank>(std::move(bank));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(add("platform", kInternal,
                      {kAccessId, kLevels, kUnsent, kReady, kAccessData}));
  for (uint32_t i = 0; i < spec.regions().size(); ++i) {
    RETURN_IF_ERROR(add(absl::StrCat("region", i), i, spec.regions()[i]));
    result->regions_.push_back({spec.regions()[i].size(), true, true, {}});
  }
  for (const bool level : spec.lines()) result->irqs_.push_back({1, level});
  RETURN_IF_ERROR(ValidateSchema(result->schema_));
  return result;
}

absl::StatusOr<Schema> PlatformFunction::StateSchema(const PlatformSpec& spec) {
  ASSIGN_OR_RETURN(const auto function, Describe(spec));
  return function->schema_;
}

absl::StatusOr<std::unique_ptr<PlatformFunction>> PlatformFunction::Create(
    const PlatformSpec& spec, const Schema& stored, Services services,
    const MakeDevice& make) {
  if (services.irqs == nullptr) {
    return absl::InvalidArgumentError("platform: no interrupts given");
  }
  ASSIGN_OR_RETURN(auto function, Describe(spec));
  for (const auto& bank : function->banks_) {
    if (bank != nullptr) RETURN_IF_ERROR(bank->Bind(stored));
  }
  function->schema_ = stored;
  function->services_ = std::move(services);
  ASSIGN_OR_RETURN(function->device_, make(*function));
  return function;
}

PlatformFunction::~PlatformFunction() = default;

absl::Status PlatformFunction::Start(StateBank& bank) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    state_ = &bank;
  }
  return Transact([this](StateTxn& txn, PlatformTxn& device) {
    if (Get(txn, kReady) == 0) {
      ResetIn(txn, device);
      Set(txn, kReady, 1);
    }
    return absl::OkStatus();
  });
}

uint64_t PlatformFunction::Get(StateTxn& txn, const Register& reg,
                               uint32_t index) const {
  return banks_[kInternal]->Get(txn, reg, index);
}

void PlatformFunction::Set(StateTxn& txn, const Register& reg, uint64_t value,
                           uint32_t index) const {
  banks_[kInternal]->Set(txn, reg, index, value);
}

// One transaction, and the signals that follow its commit.
absl::Status PlatformFunction::Transact(Change change) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (state_ == nullptr) {
    return absl::FailedPreconditionError("platform: not started");
  }
  StateTxn txn = state_->Begin();
  if (!txn.intact()) return state_->Commit(txn);
  const auto before = static_cast<uint32_t>(Get(txn, kLevels));
  PlatformTxn device(*this, txn, before);
  RETURN_IF_ERROR(change(txn, device));
  const uint32_t levels = device.levels();
  const uint32_t fresh = device.pulses() | (levels & ~before);
  if (txn.dirty() || fresh != 0 || levels != before) {
    Set(txn, kLevels, levels);
    Set(txn, kUnsent, fresh | (resumed_ ? 0 : Get(txn, kUnsent)));
  }
  RETURN_IF_ERROR(state_->Commit(txn));
  levels_.store(levels);
  Signal(fresh);
  return absl::OkStatus();
}

void PlatformFunction::Signal(uint32_t lines) {
  for (uint32_t line = 0; line < irqs_.size(); ++line) {
    if ((lines >> line & 1) != 0) services_.irqs->Signal(line, 0);
  }
}

absl::Status PlatformFunction::CheckRange(uint32_t region, uint64_t offset,
                                          uint64_t size) const {
  const uint64_t end = region < regions_.size() ? regions_[region].size : 0;
  if (offset > end || size > end - offset) {
    return absl::OutOfRangeError(
        absl::StrFormat("platform: %d bytes at 0x%x of region %d, which has "
                        "0x%x",
                        size, offset, region, end));
  }
  if (size > kMaxAccess) {
    return absl::InvalidArgumentError(
        absl::StrFormat("platform: %d bytes of registers at once, at most %d",
                        size, kMaxAccess));
  }
  return absl::OkStatus();
}

// The device's errors must not look like those of the state.
absl::Status PlatformFunction::Blame(absl::Status status) {
  if (status.ok()) return status;
  guest_errors_.fetch_add(1);
  return absl::InvalidArgumentError(absl::StrCat("device: ", status.message()));
}

absl::Status PlatformFunction::Read(AccessId id, uint32_t region,
                                    uint64_t offset, absl::Span<uint8_t> out) {
  RETURN_IF_ERROR(CheckRange(region, offset, out.size()));
  return Transact([&](StateTxn& txn, PlatformTxn& device) -> absl::Status {
    uint64_t kept[kMaxAccess / 8] = {};
    const bool named = id != AccessId::kNone;
    if (named && Get(txn, kAccessId) == static_cast<uint64_t>(id)) {
      for (uint32_t i = 0; i < kMaxAccess / 8; ++i) {
        kept[i] = Get(txn, kAccessData, i);
      }
      std::memcpy(out.data(), kept, out.size());
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(
        banks_[region]->Read(txn, offset, out, [&](const RegRead& read) {
          return Blame(device_->OnRead(read, device));
        }));
    if (!named || !txn.dirty()) return absl::OkStatus();
    std::memcpy(kept, out.data(), out.size());
    Set(txn, kAccessId, static_cast<uint64_t>(id));
    for (uint32_t i = 0; i < kMaxAccess / 8; ++i) {
      Set(txn, kAccessData, kept[i], i);
    }
    return absl::OkStatus();
  });
}

absl::Status PlatformFunction::Write(AccessId id, uint32_t region,
                                     uint64_t offset,
                                     absl::Span<const uint8_t> bytes) {
  RETURN_IF_ERROR(CheckRange(region, offset, bytes.size()));
  return Transact([&](StateTxn& txn, PlatformTxn& device) -> absl::Status {
    const bool named = id != AccessId::kNone;
    if (named && Get(txn, kAccessId) == static_cast<uint64_t>(id)) {
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(
        banks_[region]->Write(txn, offset, bytes, [&](const RegWrite& write) {
          return Blame(device_->OnWrite(write, device));
        }));
    if (named && txn.dirty()) Set(txn, kAccessId, static_cast<uint64_t>(id));
    return absl::OkStatus();
  });
}

void PlatformFunction::ResetIn(StateTxn& txn, PlatformTxn& device) {
  for (uint32_t region = 0; region < kInternal; ++region) {
    if (banks_[region] != nullptr) banks_[region]->Reset(txn);
  }
  for (uint32_t line = 0; line < irqs_.size(); ++line) {
    device.SetLine(line, false);
  }
  device_->OnReset(device);
}

absl::Status PlatformFunction::Reset() {
  return Transact([this](StateTxn& txn, PlatformTxn& device) {
    ResetIn(txn, device);
    return absl::OkStatus();
  });
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
    unsent = static_cast<uint32_t>(Get(txn, kUnsent)) | device.levels();
    return absl::OkStatus();
  }));
  Signal(unsent);
  std::lock_guard<std::mutex> lock(mutex_);
  resumed_ = true;
  return absl::OkStatus();
}

absl::Status PlatformFunction::Update(
    absl::FunctionRef<absl::Status(PlatformTxn&)> change) {
  return Transact(
      [&](StateTxn&, PlatformTxn& device) { return change(device); });
}

BorrowedFd PlatformFunction::Resource(absl::string_view name) const {
  const auto found = services_.resources.find(std::string(name));
  return found == services_.resources.end() ? BorrowedFd(-1) : found->second;
}

}  // namespace holdfast
