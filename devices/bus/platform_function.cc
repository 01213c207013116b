#include "devices/bus/platform_function.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

// What the framework remembers: registers that no guest sees.
// Beside those of access_keeper.h.
constexpr uint32_t kInternal = access::kBank;
static_assert(kInternal == PlatformSpec::kMaxRegions, "after the guest's");
constexpr Reg32 kLevels = Reg32{"levels", 0x08, kReadWrite}.InBar(kInternal);
// Lines that may not have been signalled.
constexpr Reg32 kUnsent = Reg32{"unsent", 0x0c, kReadWrite}.InBar(kInternal);

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
  RETURN_IF_ERROR(
      add("platform", kInternal,
          {access::kName, kLevels, kUnsent, access::kReady, access::kAnswer}));
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
  keeper_.TakeOver(*banks_[kInternal], bank, [] {});
  return Transact([this](StateTxn& txn, PlatformTxn& device) {
    keeper_.MakeReady(txn, [&] { ResetIn(txn, device); });
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
  uint32_t levels = 0;
  uint32_t fresh = 0;
  return keeper_.Transact(
      [&](StateTxn& txn) -> absl::Status {
        const auto before = static_cast<uint32_t>(Get(txn, kLevels));
        PlatformTxn device(*this, txn, before);
        RETURN_IF_ERROR(change(txn, device));
        levels = device.levels();
        fresh = device.pulses() | (levels & ~before);
        if (txn.dirty() || fresh != 0 || levels != before) {
          Set(txn, kLevels, levels);
          Set(txn, kUnsent,
              fresh | (keeper_.resumed() ? 0 : Get(txn, kUnsent)));
        }
        return absl::OkStatus();
      },
      [&] {
        levels_.store(levels);
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
  return Transact([&](StateTxn& txn, PlatformTxn& device) {
    return keeper_.Read(txn, id, out, [&] {
      return banks_[region]->Read(txn, offset, out, [&](const RegRead& read) {
        return keeper_.Blame(device_->OnRead(read, device));
      });
    });
  });
}

absl::Status PlatformFunction::Write(AccessId id, uint32_t region,
                                     uint64_t offset,
                                     absl::Span<const uint8_t> bytes) {
  RETURN_IF_ERROR(CheckRange(region, offset, bytes.size()));
  return Transact([&](StateTxn& txn, PlatformTxn& device) {
    return keeper_.Write(txn, id, [&] {
      return banks_[region]->Write(
          txn, offset, bytes, [&](const RegWrite& write) {
            return keeper_.Blame(device_->OnWrite(write, device));
          });
    });
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
  keeper_.SetResumed();
  return absl::OkStatus();
}

absl::Status PlatformFunction::Update(
    absl::FunctionRef<absl::Status(PlatformTxn&)> change) {
  return Transact(
      [&](StateTxn&, PlatformTxn& device) { return change(device); });
}

}  // namespace holdfast
