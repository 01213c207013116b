#include "tests/load/gap_recorder.h"

#include <algorithm>
#include <vector>

namespace holdfast::load {

void GapRecorder::Completed(double submitted, double now) {
  const Gap gap = {last_, now - last_};
  last_ = now;
  longest_request_ = std::max(longest_request_, now - submitted);
  longest_gap_ = std::max(longest_gap_, gap.length);
  if (gap.length < threshold_) return;
  gaps_.push_back(gap);
  if (gaps_.size() == kMaxGaps) ForgetShorterHalf();
}

void GapRecorder::ForgetShorterHalf() {
  std::vector<double> lengths;
  for (const Gap& gap : gaps_) lengths.push_back(gap.length);
  const auto middle = lengths.begin() + lengths.size() / 2;
  std::nth_element(lengths.begin(), middle, lengths.end());
  threshold_ = *middle;
  gaps_.erase(std::remove_if(
                  gaps_.begin(), gaps_.end(),
                  [this](const Gap& gap) { return gap.length <= threshold_; }),
              gaps_.end());
}

}  // namespace holdfast::load
