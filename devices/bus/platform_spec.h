#ifndef HOLDFAST_DEVICES_BUS_PLATFORM_SPEC_H_
#define HOLDFAST_DEVICES_BUS_PLATFORM_SPEC_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/bus/areas.h"
#include "devices/bus/device_spec.h"
#include "devices/bus/registers.h"
#include "statestore/cell.h"
#include "statestore/schema.h"

namespace holdfast {

// What a memory-mapped device of a system on chip is, as data: register files
// and interrupt lines, no bus that could be asked for more. Built once at
// start.
class PlatformSpec {
 public:
  static constexpr uint32_t kMaxRegions = 8;
  static constexpr uint32_t kMaxLines = 32;  // Bits of a word of state.

  // Registers, as the next region: the first is 0. They say so (InBar). Their
  // values are state, and each access is a transaction.
  PlatformSpec& Region(RegisterFile file) {
    regions_.push_back(std::move(file));
    return *this;
  }
  // An interrupt line, as the next number. A level stays until it is let go.
  PlatformSpec& LevelLine() { return Line(true); }
  PlatformSpec& EdgeLine() { return Line(false); }
  PlatformSpec& Resource(std::string name, std::string help) {
    resources_.push_back({std::move(name), std::move(help)});
    return *this;
  }
  // Pins what a guest can see. A device serves every version up to this one.
  PlatformSpec& CompatVersion(uint32_t version) {
    compat_version_ = version;
    return *this;
  }
  // The device's durable state beside its registers; see statestore/cell.h.
  template <typename S>
  PlatformSpec& State() {
    schema_ = DescribeState<S>();
    return *this;
  }
  // `size` bytes of the segment for what is too large or too hot for
  // transactions, a multiple of 64. Zeros in a new segment; a reset does not
  // touch them. RegionContext::Area gives them, and says what is promised.
  PlatformSpec& Area(std::string name, uint32_t size) {
    areas_.Add(std::move(name), size);
    return *this;
  }
  // On how many threads OnWork may run: different work beside one another, the
  // same work never. What it finds shared is then the device's to lock.
  PlatformSpec& WorkThreads(uint32_t threads) {
    work_threads_ = threads;
    return *this;
  }

  const std::vector<RegisterFile>& regions() const { return regions_; }
  // Whether each line is a level.
  const std::vector<bool>& lines() const { return lines_; }
  const std::vector<ResourceSpec>& resources() const { return resources_; }
  uint32_t compat_version() const { return compat_version_; }
  const absl::StatusOr<Schema>& schema() const { return schema_; }
  const Areas& areas() const { return areas_; }
  uint32_t work_threads() const { return work_threads_; }

  // INVALID_ARGUMENT names what breaks a rule of this header.
  absl::Status Check() const;

 private:
  PlatformSpec& Line(bool level) {
    lines_.push_back(level);
    return *this;
  }

  std::vector<RegisterFile> regions_;
  std::vector<bool> lines_;
  std::vector<ResourceSpec> resources_;
  uint32_t compat_version_ = 1;
  absl::StatusOr<Schema> schema_ = DescribeState<NoState>();
  Areas areas_;
  uint32_t work_threads_ = 1;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_PLATFORM_SPEC_H_
