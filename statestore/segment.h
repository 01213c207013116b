#ifndef HOLDFAST_STATESTORE_SEGMENT_H_
#define HOLDFAST_STATESTORE_SEGMENT_H_

// The segment: one span of shared memory that is all a device instance keeps
// across kill -9. Pure over the span; segment_sys.h makes and maps it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "statestore/format.h"
#include "statestore/schema.h"

namespace holdfast {

// What a new segment shall hold. A size of 0 leaves the section out.
struct SegmentSpec {
  std::string device;           // 1 to kMaxDeviceName bytes, printable ASCII.
  uint32_t compat_version = 1;  // Of the guest-visible behaviour.
  Schema state;                 // DescribeState<...>().
  uint16_t queue_count = 0;
  uint16_t max_queue_size = 0;  // Descriptors.
  uint32_t inflight_size = 0;   // Bytes per queue.
  uint16_t lane_count = 0;
  uint32_t lane_size = 0;                // Bytes per lane, whole pages.
  uint32_t session_size = 0;             // Bytes.
  uint32_t bulk_size = 0;                // Bytes of large internal state.
  uint32_t undo_size = 0;                // Bytes; needed with bulk_size.
  uint32_t areas_size = 0;               // Bytes that the device orders.
  uint32_t flight_recorder_size = 4096;  // Bytes.
  uint32_t crash_record_size = 4096;     // Bytes.
};

// What is where in a formatted segment.
struct SegmentLayout {
  std::string device;
  uint32_t compat_version = 0;
  uint64_t size = 0;
  uint16_t queue_count = 0;
  uint16_t max_queue_size = 0;
  uint16_t lane_count = 0;
  std::vector<SectionEntry> sections;
  Schema schema;

  // Null if there is none.
  const SectionEntry* Find(SectionType type, uint16_t index = 0) const;
};

// Bytes of the segment that FormatSegment makes of `spec`, whole pages.
// InvalidArgument names the field of the spec that breaks a limit of format.h.
absl::StatusOr<size_t> SegmentSize(const SegmentSpec& spec);

// Writes an empty segment of `spec` into `memory`, which is 8-byte aligned and
// has at least SegmentSize(spec) bytes; what is beyond them stays unused, so
// that whoever makes the memory need not know the device. The magic goes last,
// so a process that dies anywhere in between leaves an empty segment and the
// next one simply formats again. All sections but schema and state become zero.
// FailedPrecondition when the memory is formatted already; InvalidArgument
// for the spec or the size. Only one process may format at a time.
absl::Status FormatSegment(absl::Span<uint8_t> memory, const SegmentSpec& spec);

// Reads header, section table and schema of `memory` and checks every rule of
// docs/state-format.md that concerns them. Total: any bytes give a valid layout
// or DataLoss, FailedPrecondition (empty) or Unimplemented (other format
// version); reads each byte once, so other writers cannot confuse it.
absl::StatusOr<SegmentLayout> ReadLayout(absl::Span<const uint8_t> memory);

// A formatted segment, mapped. Copyable view: does not own the memory, which
// must stay mapped. Safe to use from any thread, as nothing in it changes but
// the epoch; who may touch which section is that section's law.
class Segment {
 public:
  // Whether nobody has formatted this memory to the end: FormatSegment may run.
  static bool IsEmpty(absl::Span<const uint8_t> memory);

  // `memory` must be 8-byte aligned. Errors: those of ReadLayout.
  static absl::StatusOr<Segment> Attach(absl::Span<uint8_t> memory);

  const SegmentLayout& layout() const { return layout_; }
  const std::string& device() const { return layout_.device; }
  uint32_t compat_version() const { return layout_.compat_version; }
  uint16_t queue_count() const { return layout_.queue_count; }
  uint16_t max_queue_size() const { return layout_.max_queue_size; }
  uint16_t lane_count() const { return layout_.lane_count; }
  // The schema as it was stored at formatting: argument of BindState.
  const Schema& schema() const { return layout_.schema; }

  // The bytes of a section; empty if the segment has none.
  absl::Span<uint8_t> section(SectionType type, uint16_t index = 0) const;

  // The highest epoch that was claimed; 0 before the first.
  uint64_t epoch() const;

  // Raises the epoch to `epoch`. False, without effect, when it is that high
  // already: somebody promoted later owns the segment.
  bool ClaimEpoch(uint64_t epoch) const;

 private:
  Segment(absl::Span<uint8_t> memory, SegmentLayout layout)
      : memory_(memory), layout_(std::move(layout)) {}

  absl::Span<uint8_t> memory_;
  SegmentLayout layout_;
};

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_SEGMENT_H_
