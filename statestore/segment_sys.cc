#include "statestore/segment_sys.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "statestore/format.h"
#include "statestore/shared_word.h"

namespace holdfast {
namespace {

constexpr int kCopyAttempts = 100;

std::string LimitText(rlim_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : absl::StrCat(limit);
}

absl::Status LockStatus(size_t size) {
  const int error = errno;
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  if (error == ENOMEM || error == EAGAIN || error == EPERM) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "locking ", size, " bytes of a segment: RLIMIT_MEMLOCK is ",
        LimitText(limit.rlim_cur), " (at most ", LimitText(limit.rlim_max),
        ") for all locked memory of the process; raise it or make the "
        "segment smaller"));
  }
  return ErrnoStatus(error, "mlock of a segment");
}

absl::StatusOr<size_t> SealedSize(BorrowedFd fd) {
  if (!IsSealedAgainstShrinking(fd)) {
    return absl::FailedPreconditionError(
        "segment: the descriptor is not a memfd sealed against shrinking");
  }
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(fd));
  if (size == 0 || size > kMaxSegmentSize || size % kPageSize != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment: ", size, " bytes are not 1 to ",
                     kMaxSegmentSize / kPageSize, " pages"));
  }
  return static_cast<size_t>(size);
}

}  // namespace

absl::StatusOr<UniqueFd> CreateEmptySegment(size_t size) {
  if (size == 0 || size > kMaxSegmentSize || size % kPageSize != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment: ", size, " bytes are not 1 to ",
                     kMaxSegmentSize / kPageSize, " pages"));
  }
  return CreateSealedMemfd("holdfast-segment", size);
}

absl::StatusOr<UniqueFd> CreateSegment(const SegmentSpec& spec) {
  ASSIGN_OR_RETURN(const size_t size, SegmentSize(spec));
  ASSIGN_OR_RETURN(UniqueFd fd, CreateEmptySegment(size));
  ASSIGN_OR_RETURN(const Mapping mapping,
                   MapShared(fd, 0, size, MapAccess::kReadWrite));
  RETURN_IF_ERROR(FormatSegment(mapping.span(), spec));
  return fd;
}

absl::StatusOr<Mapping> MapSegmentUnlocked(BorrowedFd fd) {
  ASSIGN_OR_RETURN(const size_t size, SealedSize(fd));
  ASSIGN_OR_RETURN(Mapping mapping,
                   MapShared(fd, 0, size, MapAccess::kReadWrite));
  // Kernels without huge pages say EINVAL and cannot collapse into one.
  if (madvise(mapping.data(), size, MADV_NOHUGEPAGE) != 0 && errno != EINVAL) {
    return ErrnoStatus("madvise of a segment");
  }
  return mapping;
}

absl::Status LockMemory(absl::Span<const uint8_t> bytes) {
  if (mlock(bytes.data(), bytes.size()) != 0) return LockStatus(bytes.size());
  return absl::OkStatus();
}

absl::StatusOr<Mapping> MapSegment(BorrowedFd fd) {
  ASSIGN_OR_RETURN(Mapping mapping, MapSegmentUnlocked(fd));
  RETURN_IF_ERROR(LockMemory(mapping.span()));
  return mapping;
}

absl::StatusOr<OwnedSegment> OpenSegment(BorrowedFd fd,
                                         const SegmentSpec& spec) {
  ASSIGN_OR_RETURN(Mapping mapping, MapSegment(fd));
  if (Segment::IsEmpty(mapping.span())) {
    RETURN_IF_ERROR(FormatSegment(mapping.span(), spec));
  }
  ASSIGN_OR_RETURN(Segment segment, Segment::Attach(mapping.span()));
  return OwnedSegment{std::move(mapping), std::move(segment)};
}

absl::StatusOr<Mapping> MapSegmentToRead(BorrowedFd fd) {
  ASSIGN_OR_RETURN(const size_t size, SealedSize(fd));
  return MapShared(fd, 0, size, MapAccess::kReadOnly);
}

absl::StatusOr<std::vector<uint8_t>> CopySegment(BorrowedFd fd) {
  ASSIGN_OR_RETURN(const Mapping mapping, MapSegmentToRead(fd));
  std::vector<uint8_t> copy(mapping.data(), mapping.data() + mapping.size());
  const absl::StatusOr<SegmentLayout> layout = ReadLayout(copy);
  if (!layout.ok()) return copy;  // Recover will say what is wrong with it.
  const SectionEntry state = *layout->Find(SectionType::kState);
  const uint8_t* source = mapping.data() + state.offset;
  for (int attempt = 0; attempt < kCopyAttempts; ++attempt) {
    // The bank that the word names is not written until the word has changed,
    // so an unchanged word vouches for it.
    const uint64_t before = LoadWord(source);
    std::memcpy(copy.data() + state.offset, source, state.size);
    SharedAccess::Fence();
    if (LoadWord(source) == before) {
      std::memcpy(copy.data() + state.offset, &before, sizeof(before));
      return copy;
    }
  }
  return absl::UnavailableError("segment: its owner commits all the time");
}

}  // namespace holdfast
