#ifndef HOLDFAST_TESTS_LOAD_GAP_RECORDER_H_
#define HOLDFAST_TESTS_LOAD_GAP_RECORDER_H_

#include <cstddef>
#include <vector>

namespace holdfast::load {

// Keeps the longest pauses between two completions of a load that always has
// requests in flight: what a user of the device feels when it stops. All times
// are seconds of one monotonic clock. Pure, not thread-safe.
class GapRecorder {
 public:
  struct Gap {
    double start = 0;   // The completion before the pause.
    double length = 0;  // Until the next one.
  };

  // A console is slow: with this many gaps the shorter half is forgotten, and
  // the threshold rises to the shortest one kept.
  static constexpr size_t kMaxGaps = 16384;

  // Gaps shorter than `threshold` are not listed. The clock starts at `now`.
  GapRecorder(double threshold, double now)
      : threshold_(threshold), last_(now) {}

  // A request that was submitted at `submitted` completed at `now`.
  void Completed(double submitted, double now);

  double threshold() const { return threshold_; }
  double last() const { return last_; }
  double longest_gap() const { return longest_gap_; }
  double longest_request() const { return longest_request_; }

  // In the order of time.
  const std::vector<Gap>& gaps() const { return gaps_; }

 private:
  void ForgetShorterHalf();

  double threshold_;
  double last_;
  double longest_gap_ = 0;
  double longest_request_ = 0;
  std::vector<Gap> gaps_;
};

}  // namespace holdfast::load

#endif  // HOLDFAST_TESTS_LOAD_GAP_RECORDER_H_
