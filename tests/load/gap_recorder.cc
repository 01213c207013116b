#include "tests/load/gap_recorder.h"

#include <algorithm>

namespace holdfast::load {

void GapRecorder::Completed(double submitted, double now) {
  const Gap gap = {last_, now - last_};
  last_ = now;
  longest_request_ = std::max(longest_request_, now - submitted);
  longest_gap_ = std::max(longest_gap_, gap.length);
  if (gap.length < threshold_) return;
  if (gaps_.size() == kMaxGaps) {
    const auto shortest = std::min_element(
        gaps_.begin(), gaps_.end(),
        [](const Gap& a, const Gap& b) { return a.length < b.length; });
    if (shortest->length >= gap.length) return;
    gaps_.erase(shortest);
  }
  gaps_.push_back(gap);
}

}  // namespace holdfast::load
