#include "devices/bus/testing/region_guest.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "statestore/format.h"
#include "statestore/state_section.h"

namespace holdfast::testing {
namespace {

size_t WholePages(size_t size) {
  return (size + kPageSize - 1) / kPageSize * kPageSize;
}

std::atomic<const uint64_t*> attached_resource{nullptr};

}  // namespace

void Need(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::abort();
}

RegionGuest::RegionGuest(Layout layout, Options options)
    : layout_(std::move(layout)),
      options_(options),
      state_size_(StateSectionSize(layout_.schema.size, /*queues=*/0)) {}

RegionGuest::~RegionGuest() {
  const uint64_t* mine =
      view_.record == nullptr ? nullptr : &view_.record->resource;
  attached_resource.compare_exchange_strong(mine, nullptr);
}

size_t RegionGuest::MemorySize() const {
  return WholePages(state_size_ + sizeof(RegionRecord) + options_.ram_size +
                    layout_.shared_size + layout_.areas_size);
}

// Areas are last, at whole cache lines from the end.
RegionGuest::View RegionGuest::ViewOf(absl::Span<uint8_t> memory) const {
  const size_t ram = state_size_ + sizeof(RegionRecord);
  const size_t areas = memory.size() - layout_.areas_size;
  return {memory.first(state_size_),
          reinterpret_cast<RegionRecord*>(memory.data() + state_size_),
          memory.subspan(ram, options_.ram_size),
          memory.subspan(areas - layout_.shared_size, layout_.shared_size),
          memory.subspan(areas, layout_.areas_size)};
}

void RegionGuest::Format(absl::Span<uint8_t> memory) const {
  std::memset(memory.data(), 0, memory.size());
  FormatState(memory.first(state_size_), layout_.schema.size,
              /*queue_count=*/0);
}

void RegionGuest::Begin() {
  own_.resize(MemorySize() + kPageSize);
  const size_t skew = reinterpret_cast<uintptr_t>(own_.data()) % kPageSize;
  const absl::Span<uint8_t> memory(own_.data() + (kPageSize - skew) % kPageSize,
                                   MemorySize());
  Format(memory);
  Attach(memory);
}

void RegionGuest::Attach(absl::Span<uint8_t> memory) {
  memory_ = memory;
  view_ = ViewOf(memory);
  attached_resource.store(&view_.record->resource);
  // A function is made once for many tries, where nothing of it is elsewhere.
  if (!view_.shared.empty() && view_.shared.data() != made_for_) {
    made_for_ = view_.shared.data();
    Make(view_.shared);
  }
  Need(windows_.RemoveAll());
  Need(windows_.Add({GuestAddress{0}, options_.ram_size, DmaAccess::kReadWrite,
                     ram().data(), nullptr}));
  uint64_t word;
  std::memcpy(&word, memory.data(), sizeof(word));
  bank_.emplace(Need(StateBank::Attach(
      state(), CommitWord::Unpack(word).epoch + 1, StateBank::Threads::kOne)));
  Need(Start(*bank_, areas()));
  if (options_.resumes) Need(bare().Resume());
  Work();
}

void RegionGuest::Restart() {
  Make(view_.shared);
  Attach(memory_);
}

// An access, unless it was answered before. `access` makes it under the name
// that it is given, and returns the answer.
template <typename Access>
uint64_t RegionGuest::Once(Access access) {
  RegionRecord& record = *view_.record;
  const uint64_t number = next_++;
  const size_t slot = number % RegionRecord::kMaxAccesses;
  if (number < record.done) return record.answers[slot];
  const uint64_t answer =
      access(options_.names_accesses ? AccessId{number + 1} : AccessId::kNone);
  record.answers[slot] = answer;
  record.done = number + 1;
  Work();
  return answer;
}

uint64_t RegionGuest::Read(uint32_t region, uint64_t offset, size_t size) {
  return Once([&](AccessId id) {
    uint64_t value = 0;
    status_ = device().Read(id, region, offset,
                            {reinterpret_cast<uint8_t*>(&value), size});
    return status_.ok() ? value : ~uint64_t{0} >> (8 * (8 - size));
  });
}

void RegionGuest::Write(uint32_t region, uint64_t offset, uint64_t value,
                        size_t size) {
  Once([&](AccessId id) {
    status_ = device().Write(id, region, offset,
                             {reinterpret_cast<const uint8_t*>(&value), size});
    return uint64_t{status_.ok()};
  });
}

void RegionGuest::StoreRam(uint64_t address, absl::Span<const uint8_t> bytes) {
  Once([&](AccessId) {
    std::memcpy(ram().subspan(address, bytes.size()).data(), bytes.data(),
                bytes.size());
    return uint64_t{0};
  });
}

void RegionGuest::ChangeResource(uint64_t value) {
  Once([&](AccessId) {
    uint64_t* const resource = &view_.record->resource;
    if (__atomic_exchange_n(resource, value, __ATOMIC_RELAXED) != value) {
      status_ = device().ResourceChanged();
    }
    return uint64_t{0};
  });
}

uint64_t RegionGuest::Resource() {
  const uint64_t* const resource = attached_resource.load();
  return resource == nullptr ? 0 : __atomic_load_n(resource, __ATOMIC_RELAXED);
}

void RegionGuest::Work() {
  while (bare().work_pending()) {
    const absl::Status status = bare().RunWork();
    if (absl::IsAborted(status) || absl::IsDataLoss(status)) return;
  }
}

void RegionGuest::Signal(uint32_t irq, uint32_t vector) {
  const uint64_t slot = uint64_t{irq} * layout_.vectors + vector;
  if (vector < layout_.vectors && slot < RegionRecord::kMaxSignals) {
    // From any thread.
    __atomic_fetch_add(&view_.record->signals[slot], 1, __ATOMIC_RELAXED);
  }
}

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

}  // namespace holdfast::testing
