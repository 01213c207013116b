#ifndef HOLDFAST_STATESTORE_TESTING_SAMPLE_SEGMENT_H_
#define HOLDFAST_STATESTORE_TESTING_SAMPLE_SEGMENT_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "statestore/cell.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast::testing {

enum class SampleMode : uint16_t { kIdle = 0, kBusy = 7 };

struct SampleRaw {
  uint8_t bytes[5];
};

// One field of each kind.
struct SampleState {
  static constexpr SchemaId kSchema{"sample", 2};
  Cell<uint8_t> u8{"u8"};
  Cell<uint16_t> u16{"u16"};
  Cell<uint32_t> u32{"u32"};
  Cell<uint64_t> u64{"u64"};
  Cell<int8_t> i8{"i8"};
  Cell<int16_t> i16{"i16"};
  Cell<int32_t> i32{"i32"};
  Cell<int64_t> i64{"i64"};
  Cell<bool> flag{"flag"};
  Cell<float> f32{"f32"};
  Cell<double> f64{"f64"};
  Cell<SampleMode> mode{"mode"};
  Cell<std::array<uint16_t, 3>> array{"array"};
  Cell<SampleRaw> raw{"raw"};
};

// Two queues, one lane, session, bulk data: every kind of section.
SegmentSpec SampleSpec();

// Memory of a segment, page-aligned.
class AlignedMemory {
 public:
  explicit AlignedMemory(size_t size);
  absl::Span<uint8_t> span() {
    return {reinterpret_cast<uint8_t*>(pages_.get()), size_};
  }

 private:
  struct alignas(4096) Page {
    uint8_t bytes[4096];
  };
  size_t size_;
  std::unique_ptr<Page[]> pages_;
};

// A SampleSpec() segment after two commits under epoch 3, the second with a
// completion for each queue and bulk data, and a third that never came: its
// bank is half written and its undo log armed. The same bytes every time.
// Precondition: all is well with the state store; anything else aborts.
AlignedMemory MakeSampleSegment();

}  // namespace holdfast::testing

#endif  // HOLDFAST_STATESTORE_TESTING_SAMPLE_SEGMENT_H_
