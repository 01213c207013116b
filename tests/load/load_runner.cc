#include "tests/load/load_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast::load {

LoadRunner::LoadRunner(VerifiedLoad* load, IoQueue* queue, Clock clock,
                       const RunnerOptions& options)
    : load_(load),
      queue_(queue),
      clock_(std::move(clock)),
      options_(options),
      slots_(options.depth),
      gaps_(options.gap_threshold, clock_()) {
  for (uint32_t slot = options.depth; slot > 0; --slot) {
    free_.push_back(slot - 1);
  }
}

absl::Status LoadRunner::Run(const std::function<bool()>& stop) {
  bool stopped = false;
  return Drive([&]() -> absl::optional<LoadRequest> {
    stopped = stopped || stop();
    if (stopped) return absl::nullopt;
    return load_->Next();
  });
}

absl::Status LoadRunner::ReadBack() {
  return Drive([this] { return load_->NextReadBack(); });
}

absl::Status LoadRunner::Drive(const Source& next) {
  while (true) {
    RETURN_IF_ERROR(Fill(next));
    if (in_flight_ == 0) return absl::OkStatus();
    RETURN_IF_ERROR(Reap());
  }
}

absl::Status LoadRunner::Fill(const Source& next) {
  while (!free_.empty()) {
    const absl::optional<LoadRequest> request = next();
    if (!request.has_value()) break;
    const uint32_t number = free_.back();
    free_.pop_back();
    absl::Span<uint8_t> data =
        queue_->buffer(number).subspan(0, request->bytes());
    if (request->kind == LoadRequest::Kind::kWrite) {
      load_->Fill(*request, data);
    } else {
      // What the device does not write must not look like an earlier answer.
      std::fill(data.begin(), data.end(), 0);
    }
    slots_[number] = {*request, clock_(), true};
    ++in_flight_;
    queue_->Add(number, *request);
  }
  return queue_->Submit();
}

absl::Status LoadRunner::Reap() {
  auto completions = queue_->Wait(kWaitMs);
  if (!completions.ok()) return completions.status();
  const double now = clock_();
  for (const IoQueue::Completion& completion : *completions) {
    if (completion.slot >= slots_.size() || !slots_[completion.slot].busy) {
      return absl::DataLossError(absl::StrCat(
          "completion of slot ", completion.slot, ", which has no request"));
    }
    Slot& slot = slots_[completion.slot];
    slot.busy = false;
    --in_flight_;
    gaps_.Completed(slot.submitted, now);
    load_->Complete(
        slot.request, completion.ok,
        queue_->buffer(completion.slot).subspan(0, slot.request.bytes()));
    free_.push_back(completion.slot);
  }
  const double age = OldestAge(now);
  if (age <= options_.lost_after) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat(
      "a request did not complete in ", static_cast<int64_t>(age), " s"));
}

double LoadRunner::OldestAge(double now) const {
  double age = 0;
  for (const Slot& slot : slots_) {
    if (slot.busy) age = std::max(age, now - slot.submitted);
  }
  return age;
}

std::vector<std::string> LoadRunner::lost_requests() const {
  const double now = clock_();
  std::vector<std::string> lost;
  for (const Slot& slot : slots_) {
    if (!slot.busy) continue;
    lost.push_back(absl::StrCat(
        slot.request.kind == LoadRequest::Kind::kWrite ? "write" : "read",
        " of block ", slot.request.first_block, "+", slot.request.blocks,
        ", age ", now - slot.submitted, " s"));
  }
  return lost;
}

}  // namespace holdfast::load
