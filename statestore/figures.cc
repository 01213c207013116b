#include "statestore/figures.h"

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "statestore/format.h"
#include "statestore/segment.h"
#include "statestore/shared_word.h"
#include "statestore/state_section.h"

namespace holdfast {
namespace {

// Its owner would have to commit during each of them.
constexpr int kAttempts = 100;

absl::Span<const uint8_t> SectionOf(absl::Span<const uint8_t> memory,
                                    const SegmentLayout& layout,
                                    SectionType type) {
  const SectionEntry* s = layout.Find(type);
  if (s == nullptr) return {};
  return memory.subspan(s->offset, s->size);
}

// The current bank holds the whole number of commits, the word only the low
// bits; while the word stays the same, its bank does.
absl::StatusOr<uint64_t> ReadCommits(absl::Span<const uint8_t> state) {
  ASSIGN_OR_RETURN(const StateHeader header, ReadStateHeader(state));
  const size_t stride = BankStride(header.fields_size, header.queue_count);
  for (int i = 0; i < kAttempts; ++i) {
    const uint64_t before = LoadWord(state.data());
    const CommitWord word = CommitWord::Unpack(before);
    const uint64_t sequence =
        LoadWord(state.data() + sizeof(StateHeader) + word.bank * stride +
                 offsetof(BankHeader, sequence));
    SharedAccess::Fence();
    if (LoadWord(state.data()) != before) continue;
    if ((sequence & CommitWord::kSequenceMask) == word.sequence) {
      return sequence;
    }
    return absl::DataLossError(
        "state: the commit word names another sequence than its bank");
  }
  return absl::UnavailableError("state: its owner commits all the time");
}

// Entry `queue` of a section with one for each; zeros if it ends before.
template <typename Entry>
Entry ReadEntry(absl::Span<const uint8_t> section, uint16_t queue) {
  Entry entry{};
  if (section.size() / sizeof(entry) > queue) {
    SharedAccess::Copy(&entry, section.data() + queue * sizeof(entry),
                       sizeof(entry));
  }
  return entry;
}

std::string ProblemOf(const QueueFigures& queue, const SegmentLayout& layout) {
  const QueueStamp& stamp = queue.stamp;
  if (stamp.in_flight > layout.max_queue_size) {
    return absl::StrCat(stamp.in_flight, " requests in flight, of ",
                        layout.max_queue_size, " at most");
  }
  if (stamp.poisoned_ns != 0 && stamp.poisoned_head >= kMaxQueueSize) {
    return absl::StrCat("descriptor ", stamp.poisoned_head, " is in no queue");
  }
  return "";
}

}  // namespace

absl::StatusOr<SegmentFigures> ReadFigures(absl::Span<const uint8_t> memory) {
  ASSIGN_OR_RETURN(const SegmentLayout layout, ReadLayout(memory));
  SegmentFigures figures;
  figures.device = layout.device;
  figures.epoch = LoadWord(memory.data() + offsetof(SegmentHeader, epoch));
  ASSIGN_OR_RETURN(figures.commits,
                   ReadCommits(SectionOf(memory, layout, SectionType::kState)));
  const auto stats = SectionOf(memory, layout, SectionType::kStats);
  const auto stamps = SectionOf(memory, layout, SectionType::kStamps);
  for (uint16_t i = 0; i < layout.queue_count; ++i) {
    QueueFigures queue;
    queue.stats = ReadEntry<QueueStats>(stats, i);
    queue.stamp = ReadEntry<QueueStamp>(stamps, i);
    queue.problem = ProblemOf(queue, layout);
    figures.queues.push_back(std::move(queue));
  }
  return figures;
}

}  // namespace holdfast
