#include "statestore/segment.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/crc32c.h"
#include "base/status_macros.h"
#include "statestore/shared_word.h"
#include "statestore/state_section.h"

namespace holdfast {
namespace {

constexpr size_t kMagicOffset = offsetof(SegmentHeader, magic);
constexpr size_t kEpochOffset = offsetof(SegmentHeader, epoch);

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

bool IsAligned(absl::Span<const uint8_t> memory) {
  return reinterpret_cast<uintptr_t>(memory.data()) % sizeof(uint64_t) == 0;
}

bool IsDeviceName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxDeviceName &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return c > ' ' && c < 0x7f; });
}

absl::Status CheckSpec(const SegmentSpec& spec) {
  const auto error = [](auto... what) {
    return absl::InvalidArgumentError(absl::StrCat("segment spec: ", what...));
  };
  RETURN_IF_ERROR(ValidateSchema(spec.state));
  if (!IsDeviceName(spec.device)) {
    return error("device name \"", spec.device, "\" is not 1-", kMaxDeviceName,
                 " printable characters");
  }
  if (spec.state.size > kMaxFieldsSize) {
    return error("state has ", spec.state.size, " bytes, limit is ",
                 kMaxFieldsSize, "; use bulk data for the large part");
  }
  if (spec.queue_count > kMaxQueues) {
    return error("queue_count ", spec.queue_count, " exceeds ", kMaxQueues);
  }
  if (spec.max_queue_size > kMaxQueueSize) {
    return error("max_queue_size ", spec.max_queue_size, " exceeds ",
                 kMaxQueueSize);
  }
  if (spec.lane_count > kMaxLanes) {
    return error("lane_count ", spec.lane_count, " exceeds ", kMaxLanes);
  }
  if (spec.lane_size % kPageSize != 0) {
    return error("lane_size ", spec.lane_size, " is not whole pages");
  }
  if ((spec.bulk_size == 0) != (spec.undo_size == 0)) {
    return error("bulk_size and undo_size go together");
  }
  return absl::OkStatus();
}

// Appends sections one after another.
class Planner {
 public:
  void Add(SectionType type, uint64_t count, uint64_t size,
           uint64_t alignment = kSectionAlignment) {
    if (size == 0) return;
    for (uint64_t i = 0; i < count; ++i) {
      end_ = AlignUp(end_, alignment);
      sections_.push_back({static_cast<uint16_t>(type),
                           static_cast<uint16_t>(i), 0, end_, size});
      end_ += size;
    }
  }
  uint64_t segment_size() const { return AlignUp(end_, kPageSize); }
  std::vector<SectionEntry> Take() { return std::move(sections_); }

 private:
  uint64_t end_ = kPageSize;
  std::vector<SectionEntry> sections_;
};

absl::StatusOr<SegmentLayout> Plan(const SegmentSpec& spec) {
  RETURN_IF_ERROR(CheckSpec(spec));
  const uint64_t queues = spec.queue_count;
  Planner planner;
  planner.Add(SectionType::kSchema, 1, EncodeSchema(spec.state).size());
  planner.Add(SectionType::kState, 1,
              StateSectionSize(spec.state.size, spec.queue_count));
  planner.Add(SectionType::kLane, spec.lane_count, spec.lane_size, kPageSize);
  planner.Add(SectionType::kInflight, queues, spec.inflight_size);
  planner.Add(SectionType::kStamps, queues != 0, queues * kStampSize);
  planner.Add(SectionType::kStats, 1, kStatsSize);
  planner.Add(SectionType::kFlightRecorder, 1, spec.flight_recorder_size);
  planner.Add(SectionType::kCrashRecord, 1, spec.crash_record_size);
  planner.Add(SectionType::kSession, 1, spec.session_size);
  planner.Add(SectionType::kBulk, 1, spec.bulk_size, kPageSize);
  planner.Add(SectionType::kUndo, 1, spec.undo_size);
  planner.Add(SectionType::kAreas, 1, spec.areas_size, kPageSize);
  if (planner.segment_size() > kMaxSegmentSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment spec: needs ", planner.segment_size(),
                     " bytes, limit is ", kMaxSegmentSize));
  }
  SegmentLayout layout;
  layout.device = spec.device;
  layout.compat_version = spec.compat_version;
  layout.size = planner.segment_size();
  layout.queue_count = spec.queue_count;
  layout.max_queue_size = spec.max_queue_size;
  layout.lane_count = spec.lane_count;
  layout.sections = planner.Take();
  layout.schema = spec.state;
  return layout;
}

// A header page apart from the segment: the writer fills one and copies it in,
// the reader copies one out and then looks at nothing else.
struct alignas(8) HeaderPage {
  uint8_t bytes[kPageSize];

  SegmentHeader header() const {
    SegmentHeader header;
    std::memcpy(&header, bytes, sizeof(header));
    return header;
  }
  void set_header(const SegmentHeader& header) {
    std::memcpy(bytes, &header, sizeof(header));
  }
  uint32_t Check() const {
    HeaderPage page = *this;
    SegmentHeader header = page.header();
    header.magic = header.epoch = header.check = 0;
    page.set_header(header);
    return Crc32c(page.bytes);
  }
};

HeaderPage MakeHeaderPage(const SegmentLayout& layout) {
  HeaderPage page{};
  SegmentHeader header{};
  header.format_version = kFormatVersion;
  header.compat_version = layout.compat_version;
  header.segment_size = layout.size;
  header.section_count = static_cast<uint16_t>(layout.sections.size());
  header.queue_count = layout.queue_count;
  header.max_queue_size = layout.max_queue_size;
  header.lane_count = layout.lane_count;
  std::memcpy(header.device, layout.device.data(), layout.device.size());
  page.set_header(header);
  std::memcpy(page.bytes + sizeof(header), layout.sections.data(),
              layout.sections.size() * sizeof(SectionEntry));
  header.check = page.Check();
  page.set_header(header);
  return page;
}

absl::Status Corrupt(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("segment: ", what));
}

absl::Status CheckHeader(const HeaderPage& page, size_t size) {
  const SegmentHeader header = page.header();
  if (header.magic == 0) {
    return absl::FailedPreconditionError("segment: not formatted");
  }
  if (header.magic != kSegmentMagic) return Corrupt("magic differs");
  if (header.format_version != kFormatVersion) {
    return absl::UnimplementedError(
        absl::StrCat("segment: format version ", header.format_version,
                     ", this binary reads version ", kFormatVersion));
  }
  if (header.check != page.Check()) return Corrupt("header checksum differs");
  if (header.segment_size > size || header.segment_size > kMaxSegmentSize) {
    return Corrupt(
        absl::StrCat("made for ", header.segment_size, " bytes, has ", size));
  }
  if (header.section_count > kMaxSections || header.queue_count > kMaxQueues ||
      header.lane_count > kMaxLanes || header.max_queue_size > kMaxQueueSize) {
    return Corrupt("a count in the header exceeds its limit");
  }
  const absl::string_view device(header.device, sizeof(header.device));
  const size_t end = device.find('\0');
  if (end == absl::string_view::npos || !IsDeviceName(device.substr(0, end)) ||
      device.find_first_not_of('\0', end) != absl::string_view::npos) {
    return Corrupt("device name is malformed");
  }
  return absl::OkStatus();
}

absl::Status CheckSections(const SegmentLayout& layout) {
  uint64_t end = kPageSize;
  std::pair<int, int> last(0, 0);
  for (const SectionEntry& s : layout.sections) {
    const auto error = [&s](absl::string_view what) {
      return Corrupt(
          absl::StrCat("section ", s.type, "/", s.index, ": ", what));
    };
    if (s.type == 0 || s.type > kLastSectionType || s.reserved != 0) {
      return error("unknown type");
    }
    if (std::pair<int, int>(s.type, s.index) <= last) {
      return error("out of order");
    }
    last = {s.type, s.index};
    if (s.offset % kSectionAlignment != 0 || s.offset < end) {
      return error("misplaced");
    }
    if (s.size == 0 || s.offset > layout.size ||
        s.size > layout.size - s.offset) {
      return error("outside the segment");
    }
    end = s.offset + s.size;
  }
  return absl::OkStatus();
}

// What the sections must have in common with the header and the schema.
absl::Status CheckContents(const SegmentLayout& layout) {
  const SectionEntry* state = layout.Find(SectionType::kState);
  if (state == nullptr || layout.schema.size > kMaxFieldsSize ||
      state->size != StateSectionSize(layout.schema.size, layout.queue_count)) {
    return Corrupt("state section does not fit the schema");
  }
  const SectionEntry* stamps = layout.Find(SectionType::kStamps);
  if ((stamps == nullptr ? 0 : stamps->size) !=
      layout.queue_count * kStampSize) {
    return Corrupt("stamp section does not fit the queue count");
  }
  for (const SectionEntry& s : layout.sections) {
    const SectionType type = static_cast<SectionType>(s.type);
    const uint16_t count = type == SectionType::kLane       ? layout.lane_count
                           : type == SectionType::kInflight ? layout.queue_count
                                                            : 1;
    if (s.index >= count) {
      return Corrupt(absl::StrCat("section ", s.type, "/", s.index,
                                  ": index out of range"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

const SectionEntry* SegmentLayout::Find(SectionType type,
                                        uint16_t index) const {
  for (const SectionEntry& s : sections) {
    if (s.type == static_cast<uint16_t>(type) && s.index == index) return &s;
  }
  return nullptr;
}

absl::StatusOr<size_t> SegmentSize(const SegmentSpec& spec) {
  ASSIGN_OR_RETURN(const SegmentLayout layout, Plan(spec));
  return static_cast<size_t>(layout.size);
}

bool Segment::IsEmpty(absl::Span<const uint8_t> memory) {
  return memory.size() >= kPageSize && IsAligned(memory) &&
         LoadWord(memory.data() + kMagicOffset) == 0;
}

absl::Status FormatSegment(absl::Span<uint8_t> memory,
                           const SegmentSpec& spec) {
  ASSIGN_OR_RETURN(const SegmentLayout layout, Plan(spec));
  if (memory.size() < layout.size || !IsAligned(memory)) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment: ", memory.size(), " bytes of memory for ",
                     layout.size, ", or misaligned"));
  }
  if (!Segment::IsEmpty(memory)) {
    return absl::FailedPreconditionError("segment: formatted already");
  }
  std::memset(memory.data(), 0, layout.size);
  const HeaderPage page = MakeHeaderPage(layout);
  std::memcpy(memory.data(), page.bytes, kPageSize);
  const std::vector<uint8_t> schema = EncodeSchema(spec.state);
  std::memcpy(memory.data() + layout.Find(SectionType::kSchema)->offset,
              schema.data(), schema.size());
  const SectionEntry* state = layout.Find(SectionType::kState);
  FormatState(memory.subspan(state->offset, state->size), spec.state.size,
              spec.queue_count);
  StoreWord(memory.data() + kMagicOffset, kSegmentMagic);
  return absl::OkStatus();
}

absl::StatusOr<SegmentLayout> ReadLayout(absl::Span<const uint8_t> memory) {
  if (memory.size() < kPageSize || !IsAligned(memory)) {
    return Corrupt("shorter than its header or misaligned");
  }
  HeaderPage page;
  // Whoever sees the magic sees what was written before it.
  const uint64_t magic = LoadWord(memory.data() + kMagicOffset);
  std::memcpy(page.bytes, memory.data(), kPageSize);
  std::memcpy(page.bytes + kMagicOffset, &magic, sizeof(magic));
  RETURN_IF_ERROR(CheckHeader(page, memory.size()));
  const SegmentHeader header = page.header();
  SegmentLayout layout;
  layout.device = header.device;
  layout.compat_version = header.compat_version;
  layout.size = header.segment_size;
  layout.queue_count = header.queue_count;
  layout.max_queue_size = header.max_queue_size;
  layout.lane_count = header.lane_count;
  layout.sections.resize(header.section_count);
  if (layout.sections.empty()) return Corrupt("no sections");
  std::memcpy(layout.sections.data(), page.bytes + sizeof(header),
              layout.sections.size() * sizeof(SectionEntry));
  RETURN_IF_ERROR(CheckSections(layout));
  const SectionEntry* schema = layout.Find(SectionType::kSchema);
  if (schema == nullptr) return Corrupt("no schema");
  const auto first = memory.begin() + schema->offset;
  const std::vector<uint8_t> bytes(first, first + schema->size);
  ASSIGN_OR_RETURN(layout.schema, DecodeSchema(bytes));
  RETURN_IF_ERROR(CheckContents(layout));
  return layout;
}

absl::StatusOr<Segment> Segment::Attach(absl::Span<uint8_t> memory) {
  ASSIGN_OR_RETURN(SegmentLayout layout, ReadLayout(memory));
  return Segment(memory, std::move(layout));
}

absl::Span<uint8_t> Segment::section(SectionType type, uint16_t index) const {
  const SectionEntry* s = layout_.Find(type, index);
  if (s == nullptr) return {};
  return memory_.subspan(s->offset, s->size);
}

uint64_t Segment::epoch() const {
  return LoadWord(memory_.data() + kEpochOffset);
}

bool Segment::ClaimEpoch(uint64_t epoch) const {
  uint64_t seen = this->epoch();
  while (seen < epoch) {
    if (CompareAndSwapWord(memory_.data() + kEpochOffset, seen, epoch)) {
      return true;
    }
  }
  return false;
}

}  // namespace holdfast
