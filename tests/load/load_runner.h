#ifndef HOLDFAST_TESTS_LOAD_LOAD_RUNNER_H_
#define HOLDFAST_TESTS_LOAD_LOAD_RUNNER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "tests/load/gap_recorder.h"
#include "tests/load/io_queue.h"
#include "tests/load/verified_load.h"

namespace holdfast::load {

struct RunnerOptions {
  uint32_t depth = 1;          // Slots of the queue that are used.
  double gap_threshold = 0.1;  // Seconds; shorter pauses are not listed.
  double lost_after = 30;      // Seconds; an older request counts as lost.
};

// Drives a VerifiedLoad through an IoQueue: keeps `depth` requests in flight,
// measures the pauses, gives up on a request that does not come back.
// Not thread-safe. `load` and `queue` must outlive it.
class LoadRunner {
 public:
  using Clock = std::function<double()>;  // Monotonic seconds.

  LoadRunner(VerifiedLoad* load, IoQueue* queue, Clock clock,
             const RunnerOptions& options);

  // Until `stop` says so, then waits for what is in flight. `stop` is asked
  // before every round of requests, at least every kWaitMs. DEADLINE_EXCEEDED:
  // requests are lost, see lost_requests(); nothing more may be run then.
  absl::Status Run(const std::function<bool()>& stop);

  // Reads and checks the whole device. The same errors.
  absl::Status ReadBack();

  const GapRecorder& gaps() const { return gaps_; }
  uint32_t in_flight() const { return in_flight_; }

  // In words, those in flight when a request was given up.
  std::vector<std::string> lost_requests() const;

  static constexpr int kWaitMs = 200;

 private:
  struct Slot {
    LoadRequest request;
    double submitted = 0;
    bool busy = false;
  };
  using Source = std::function<absl::optional<LoadRequest>()>;

  // Rounds of submitting from `next` and reaping until there is neither.
  absl::Status Drive(const Source& next);
  absl::Status Fill(const Source& next);
  absl::Status Reap();
  double OldestAge(double now) const;

  VerifiedLoad* const load_;
  IoQueue* const queue_;
  const Clock clock_;
  const RunnerOptions options_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  uint32_t in_flight_ = 0;
  GapRecorder gaps_;
};

}  // namespace holdfast::load

#endif  // HOLDFAST_TESTS_LOAD_LOAD_RUNNER_H_
