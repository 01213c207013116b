#ifndef HOLDFAST_DEVICES_BUS_TESTING_REGION_PROBER_H_
#define HOLDFAST_DEVICES_BUS_TESTING_REGION_PROBER_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "devices/bus/registers.h"
#include "devices/bus/testing/region_guest.h"

namespace holdfast::testing {

// What broke a rule, one line each, at most a few dozen; empty: nothing.
using Violations = std::vector<std::string>;

// A guest that makes accesses of any size under names of its own, and writes
// down what it finds wrong.
class RegionProber {
 public:
  virtual ~RegionProber() = default;

  virtual RegionGuest& guest() = 0;
  // The registers of a region; none for memory and what is not there.
  virtual std::vector<Register> RegistersOf(uint32_t region) const = 0;
  // Whether a field of the state is one that a guest sees, and a reset makes
  // new.
  virtual bool IsGuests(const std::string& field) const = 0;
  // Whether a write may reset the device.
  virtual bool Resets(const Register&) const { return false; }
  // Whether a region takes accesses larger than registers do.
  virtual bool TakesMore(uint32_t) const { return false; }

  const Schema& schema() { return guest().layout().schema; }
  uint32_t regions() {
    return static_cast<uint32_t>(guest().device().regions().size());
  }
  uint64_t RegionSize(uint32_t region) {
    return region < regions() ? guest().device().regions()[region].size : 0;
  }

  // One access; then all work that it ordered.
  absl::Status Read(uint32_t region, uint64_t offset, absl::Span<uint8_t> out) {
    ++name_;
    return ReadAgain(region, offset, out);
  }
  absl::Status Write(uint32_t region, uint64_t offset,
                     absl::Span<const uint8_t> bytes) {
    ++name_;
    return WriteAgain(region, offset, bytes);
  }
  // The last one once more, under its name.
  absl::Status ReadAgain(uint32_t region, uint64_t offset,
                         absl::Span<uint8_t> out) {
    const absl::Status status =
        guest().device().Read(AccessId{name_}, region, offset, out);
    guest().Work();
    return status;
  }
  absl::Status WriteAgain(uint32_t region, uint64_t offset,
                          absl::Span<const uint8_t> bytes) {
    const absl::Status status =
        guest().device().Write(AccessId{name_}, region, offset, bytes);
    guest().Work();
    return status;
  }

  // The last committed values of all fields.
  std::vector<uint8_t> Fields() {
    const auto fields = CommittedFields(guest().state(), schema());
    return std::vector<uint8_t>(fields.begin(), fields.end());
  }
  // What is different now, besides the fields `uncertain`.
  std::string CompareFieldsWith(absl::Span<const uint8_t> want,
                                const std::set<std::string>& uncertain) {
    return CompareFields(schema(), want, Fields(), uncertain);
  }
  // Besides what the framework does for a carrier.
  std::string CompareFieldsWith(absl::Span<const uint8_t> want) {
    std::set<std::string> carriers;
    for (const char* file : {"function", "platform"}) {
      for (const char* name :
           {"access_id", "access_data", "unsent", "resets"}) {
        carriers.insert(absl::StrCat(file, ".", name));
      }
    }
    return CompareFieldsWith(want, carriers);
  }

  // Writes `what` down unless `right`.
  template <typename... Parts>
  bool Expect(bool right, const Parts&... what) {
    // Reason: one broken register is found at each of its accesses.
    constexpr size_t kMost = 24;
    if (!right && found_.size() < kMost)
      found_.push_back(absl::StrCat(what...));
    return right;
  }
  Violations found() const { return found_; }

 private:
  uint64_t name_ = uint64_t{1} << 40;  // Beyond those that the guest gives.
  Violations found_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_REGION_PROBER_H_
