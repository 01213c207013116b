#ifndef HOLDFAST_DEVICES_BUS_TESTING_STATE_MEMORY_H_
#define HOLDFAST_DEVICES_BUS_TESTING_STATE_MEMORY_H_

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "statestore/format.h"
#include "statestore/schema.h"
#include "statestore/state_section.h"
#include "statestore/transaction.h"

namespace holdfast::testing {

// The section kState of a device that a test is, in memory of its own.
class StateMemory {
 public:
  explicit StateMemory(Schema schema)
      : schema_(std::move(schema)), memory_(Size() / sizeof(uint64_t)) {
    FormatState(bytes(), schema_.size, /*queue_count=*/0);
    Restart();
  }

  const Schema& schema() const { return schema_; }
  StateBank& bank() { return *bank_; }
  absl::Span<uint8_t> bytes() {
    return {reinterpret_cast<uint8_t*>(memory_.data()), Size()};
  }

  // What a successor does that takes the state over. Aborts if it cannot.
  void Restart() { bank_.emplace(Attach()); }
  // Another process does that: bank() is of one that has lost it.
  void Overtake() { (void)Attach(); }

 private:
  StateBank Attach() {
    absl::StatusOr<StateBank> bank =
        StateBank::Attach(bytes(), ++epoch_, StateBank::Threads::kOne);
    if (!bank.ok()) std::abort();
    return *std::move(bank);
  }
  size_t Size() const { return StateSectionSize(schema_.size, 0); }

  const Schema schema_;
  std::vector<uint64_t> memory_;
  uint64_t epoch_ = 0;
  std::optional<StateBank> bank_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_BUS_TESTING_STATE_MEMORY_H_
