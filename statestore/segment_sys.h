#ifndef HOLDFAST_STATESTORE_SEGMENT_SYS_H_
#define HOLDFAST_STATESTORE_SEGMENT_SYS_H_

// Segments as memory of processes: memfds, mappings, locks.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "statestore/segment.h"

namespace holdfast {

// Makes the memfd of a segment for `spec`: sealed, of its final size, and
// formatted. Errors: those of SegmentSize, CreateSealedMemfd, MapShared.
absl::StatusOr<UniqueFd> CreateSegment(const SegmentSpec& spec);

// The same but all zero, for an instance whose device formats the segment at
// its first start. InvalidArgument beyond kMaxSegmentSize or for size 0.
absl::StatusOr<UniqueFd> CreateEmptySegment(size_t size);

// A segment that this process owns, mapped for as long as this object lives.
struct OwnedSegment {
  Mapping mapping;
  Segment segment;
};

// Maps all of the memfd read-write, without huge pages: the lane's proof needs
// that no page of it can fault (see docs/state-format.md), and collapsing into
// a huge page unmaps for a moment. The caller locks what must be. Errors:
// FailedPrecondition, the descriptor is not sealed against shrinking; else
// those of MapShared.
absl::StatusOr<Mapping> MapSegmentUnlocked(BorrowedFd fd);

// Faults in and locks `bytes` of a mapping (MAP_POPULATE is not enough). A lock
// is not inherited over fork or exec, so every process does this for itself.
// Nothing is locked when it fails. Errors: ResourceExhausted, RLIMIT_MEMLOCK is
// too small, with both figures.
absl::Status LockMemory(absl::Span<const uint8_t> bytes);

// Both, for the whole segment.
absl::StatusOr<Mapping> MapSegment(BorrowedFd fd);

// MapSegment, then formatting with `spec` when the segment is empty, then
// Segment::Attach.
absl::StatusOr<OwnedSegment> OpenSegment(BorrowedFd fd,
                                         const SegmentSpec& spec);

// Maps all of it read-only, for outsiders; the descriptor may be read-only.
// Errors: FailedPrecondition, not sealed; InvalidArgument, too large.
absl::StatusOr<Mapping> MapSegmentToRead(BorrowedFd fd);

// For outsiders (dump, diff): a private copy of the whole segment,
// read once, with the state section consistent in itself even while its owner
// commits. Takes a descriptor that may be read-only; trusts nothing in it.
// Errors: FailedPrecondition, not sealed; InvalidArgument, too large;
// Unavailable, the owner committed during every attempt.
absl::StatusOr<std::vector<uint8_t>> CopySegment(BorrowedFd fd);

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_SEGMENT_SYS_H_
