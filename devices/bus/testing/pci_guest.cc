#include "devices/bus/testing/pci_guest.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "devices/bus/pci_registers.h"
#include "devices/bus/pci_state.h"
#include "statestore/format.h"
#include "statestore/state_section.h"

namespace holdfast::testing {
namespace {

template <typename T>
T Need(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

void Need(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::abort();
}

size_t StateSize(const PciClass& device) {
  const Schema schema = Need(PciState::Create(device.spec)).schema();
  return StateSectionSize(schema.size, /*queues=*/0);
}

}  // namespace

PciGuest::PciGuest(const PciClass& device, Options options)
    : PciGuest(device, options, Detached()) {
  const size_t size = MemorySize(device, options);
  own_.resize(size + kPageSize);
  const size_t skew = reinterpret_cast<uintptr_t>(own_.data()) % kPageSize;
  const absl::Span<uint8_t> memory(own_.data() + (kPageSize - skew) % kPageSize,
                                   size);
  Format(device, memory);
  Attach(memory);
}

PciGuest::PciGuest(const PciClass& device, Options options, Detached)
    : device_(device),
      options_(options),
      state_size_(StateSize(device)),
      areas_size_(Need(device.spec.Resolve()).areas_size()) {
  MakeFunction();
}

PciGuest::~PciGuest() = default;

size_t PciGuest::MemorySize(const PciClass& device, const Options& options) {
  const size_t size = StateSize(device) + sizeof(PciRecord) + options.ram_size +
                      Need(device.spec.Resolve()).areas_size();
  return (size + kPageSize - 1) / kPageSize * kPageSize;
}

void PciGuest::Format(const PciClass& device, absl::Span<uint8_t> memory) {
  std::memset(memory.data(), 0, memory.size());
  FormatState(memory.first(StateSize(device)),
              Need(PciState::Create(device.spec)).schema().size,
              /*queue_count=*/0);
}

void PciGuest::MakeFunction() {
  PciState state = Need(PciState::Create(device_.spec));
  PciServices services;
  services.irqs = this;
  services.dma = &windows_;
  services.options = device_.options;
  bars_.resize(pci::kBars);
  for (uint32_t bar = 0; bar < pci::kBars; ++bar) {
    if (state.spec().bar(bar).kind != BarSpec::Kind::kMemory) continue;
    bars_[bar].resize(state.spec().BarSize(bar));
    services.memory[bar].bytes = absl::MakeSpan(bars_[bar]);
  }
  const Schema schema = state.schema();
  wrapper_.reset();
  function_ = Need(PciFunction::Create(std::move(state), schema,
                                       std::move(services), device_.make));
  if (device_.wrap) wrapper_ = device_.wrap(*function_);
}

void PciGuest::Attach(absl::Span<uint8_t> memory) {
  memory_ = memory;
  record_ = reinterpret_cast<PciRecord*>(memory.data() + state_size_);
  Need(windows_.RemoveAll());
  Need(windows_.Add({GuestAddress{0}, options_.ram_size, DmaAccess::kReadWrite,
                     ram().data(), nullptr}));
  uint64_t word;
  std::memcpy(&word, memory.data(), sizeof(word));
  bank_.emplace(Need(StateBank::Attach(
      state(), CommitWord::Unpack(word).epoch + 1, StateBank::Threads::kOne)));
  Need(function_->Start(*bank_, areas()));
  if (options_.resumes) Need(function_->Resume());
  Work();
}

void PciGuest::Restart() {
  MakeFunction();
  Attach(memory_);
}

// An access, unless it was answered before. `access` makes it under the name
// that it is given, and returns the answer.
template <typename Make>
uint64_t PciGuest::Once(Make access) {
  const uint64_t number = next_++;
  const size_t slot = number % PciRecord::kMaxAccesses;
  if (number < record_->done) return record_->answers[slot];
  const uint64_t answer =
      access(options_.names_accesses ? AccessId{number + 1} : AccessId::kNone);
  record_->answers[slot] = answer;
  record_->done = number + 1;
  Work();
  return answer;
}

uint64_t PciGuest::Read(uint32_t region, uint64_t offset, size_t size) {
  return Once([&](AccessId id) {
    uint64_t value = 0;
    status_ = device().Read(id, region, offset,
                            {reinterpret_cast<uint8_t*>(&value), size});
    return status_.ok() ? value : ~uint64_t{0} >> (8 * (8 - size));
  });
}

void PciGuest::Write(uint32_t region, uint64_t offset, uint64_t value,
                     size_t size) {
  Once([&](AccessId id) {
    status_ = device().Write(id, region, offset,
                             {reinterpret_cast<const uint8_t*>(&value), size});
    return uint64_t{status_.ok()};
  });
}

void PciGuest::StoreRam(uint64_t address, absl::Span<const uint8_t> bytes) {
  Once([&](AccessId) {
    std::memcpy(ram().subspan(address, bytes.size()).data(), bytes.data(),
                bytes.size());
    return uint64_t{0};
  });
}

void PciGuest::Work() {
  while (function_->work_pending()) {
    const absl::Status status = function_->RunWork();
    if (absl::IsAborted(status) || absl::IsDataLoss(status)) return;
  }
}

void PciGuest::EnableMaster() {
  WriteConfig(pci::kCommand.offset(), pci::kCommandMemory | pci::kCommandMaster,
              2);
}

void PciGuest::EnableMsix() {
  WriteConfig(pci::kMsixControl.offset(), pci::kMsixEnable, 2);
}

void PciGuest::UnmaskMsix(uint32_t vector) {
  uint32_t bar = 0;
  const PciSpec spec = Need(device_.spec.Resolve());
  bar = spec.msix_bar();
  Write32(bar, 16 * vector + 12, 0);
}

absl::Span<uint8_t> PciGuest::ram() {
  return memory_.subspan(state_size_ + sizeof(PciRecord), options_.ram_size);
}

absl::Span<uint8_t> PciGuest::areas() {
  return memory_.subspan(memory_.size() - areas_size_, areas_size_);
}

absl::Span<uint8_t> PciGuest::state() { return memory_.first(state_size_); }

absl::Span<const uint8_t> CommittedFields(absl::Span<const uint8_t> state,
                                          const Schema& schema) {
  uint64_t word;
  std::memcpy(&word, state.data(), sizeof(word));
  return state.subspan(
      sizeof(StateHeader) +
          CommitWord::Unpack(word).bank * BankStride(schema.size, 0) +
          CheckedBankSize(schema.size, 0) - schema.size,
      schema.size);
}

std::string CompareFields(const Schema& schema, absl::Span<const uint8_t> want,
                          absl::Span<const uint8_t> got,
                          const std::set<std::string>& uncertain) {
  for (const Field& field : schema.fields) {
    if (uncertain.count(field.name) > 0) continue;
    for (uint32_t i = 0; i < field.type.size(); ++i) {
      const uint32_t at = field.offset + i;
      if (want[at] == got[at]) continue;
      return absl::StrCat("field ", field.name, ", byte ", i, ": ", got[at],
                          " instead of ", want[at]);
    }
  }
  return "";
}

void PciGuest::Signal(uint32_t irq, uint32_t vector) {
  if (irq < kPciIrqCount && vector < PciRecord::kMaxVectors) {
    // From any thread.
    __atomic_fetch_add(&record_->signals[irq][vector], 1, __ATOMIC_RELAXED);
  }
}

}  // namespace holdfast::testing
