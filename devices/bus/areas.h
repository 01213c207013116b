#ifndef HOLDFAST_DEVICES_BUS_AREAS_H_
#define HOLDFAST_DEVICES_BUS_AREAS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace holdfast {

// A piece of the segment that is the device's own, past all transactions.
struct AreaSpec {
  std::string name;
  uint32_t size = 0;    // Bytes.
  uint64_t offset = 0;  // In the section of all areas.
};

// Those of a device, one after another, each on cache lines of its own.
class Areas {
 public:
  // Bytes of all. Reason: they are locked into memory, with the segment, and
  // RLIMIT_MEMLOCK is 8 MiB.
  static constexpr uint64_t kMaxSize = uint64_t{4} << 20;

  void Add(std::string name, uint32_t size) {
    all_.push_back({std::move(name), size, end_});
    end_ += size;
  }

  const std::vector<AreaSpec>& all() const { return all_; }
  // Bytes of all, for SegmentSpec::areas_size. Precondition: Check is well.
  uint32_t size() const { return static_cast<uint32_t>(end_); }

  // INVALID_ARGUMENT names what is wrong: a name that is none or another's too,
  // a size that is no multiple of 64, too much. `who` begins the message.
  absl::Status Check(absl::string_view who) const;
  // INVALID_ARGUMENT: `given` is not as large as all areas, or misaligned.
  absl::Status CheckMemory(absl::string_view who,
                           absl::Span<const uint8_t> given) const;

  // The bytes of one, in the memory of all; empty: there is none of that name,
  // or no memory yet.
  absl::Span<uint8_t> Find(absl::string_view name,
                           absl::Span<uint8_t> memory) const;

 private:
  std::vector<AreaSpec> all_;
  uint64_t end_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_AREAS_H_
