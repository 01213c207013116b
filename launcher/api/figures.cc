#include "launcher/api/figures.h"

#include <chrono>
#include <string>

#include "base/status_macros.h"
#include "statestore/segment_sys.h"

namespace holdfast::launcher {
namespace {

// CLOCK_MONOTONIC, which all processes of the machine share.
uint64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

v1::QueueFigures ToProto(const QueueFigures& queue, uint32_t number,
                         uint64_t now_ns) {
  v1::QueueFigures proto;
  proto.set_queue(number);
  if (!queue.problem.empty()) {
    proto.set_error(queue.problem);
    return proto;
  }
  if (queue.stamp.progress_ns > now_ns || queue.stamp.poisoned_ns > now_ns) {
    proto.set_error("a time that is to come");
    return proto;
  }
  const auto ago_us = [now_ns](uint64_t ns) { return (now_ns - ns) / 1000; };
  proto.set_requests(queue.stats.requests);
  proto.set_in_flight(queue.stamp.in_flight);
  proto.set_resubmitted(queue.stats.resubmitted);
  proto.set_errors(queue.stats.errors);
  proto.set_interrupts(queue.stats.interrupts);
  proto.set_kicks(queue.stats.kicks);
  proto.set_rings_broken(queue.stats.broken);
  proto.set_poisoned(queue.stats.poisoned);
  if (queue.stamp.progress_ns != 0) {
    proto.set_last_answer_ago_us(ago_us(queue.stamp.progress_ns));
  }
  if (queue.stamp.poisoned_ns != 0) {
    v1::QueueFigures::Poisoned* const last = proto.mutable_last_poisoned();
    last->set_head(queue.stamp.poisoned_head);
    last->set_deaths(queue.stamp.poisoned_deaths);
    last->set_ago_us(ago_us(queue.stamp.poisoned_ns));
  }
  return proto;
}

absl::StatusOr<SegmentFigures> Read(const absl::StatusOr<UniqueFd>& segment) {
  RETURN_IF_ERROR(segment.status());
  ASSIGN_OR_RETURN(const Mapping mapping, MapSegmentToRead(*segment));
  return ReadFigures(mapping.span());
}

}  // namespace

v1::SegmentFigures ToProto(const absl::StatusOr<SegmentFigures>& figures,
                           uint64_t now_ns) {
  v1::SegmentFigures proto;
  if (!figures.ok()) {
    proto.set_error(std::string(figures.status().message()));
    return proto;
  }
  proto.set_device(figures->device);
  proto.set_epoch(figures->epoch);
  proto.set_commits(figures->commits);
  uint32_t number = 0;
  for (const QueueFigures& queue : figures->queues) {
    *proto.add_queues() = ToProto(queue, number++, now_ns);
  }
  return proto;
}

v1::SegmentFigures FiguresOf(const absl::StatusOr<UniqueFd>& segment) {
  const absl::StatusOr<SegmentFigures> figures = Read(segment);
  // Not before: its device goes on writing times.
  return ToProto(figures, NowNs());
}

}  // namespace holdfast::launcher
