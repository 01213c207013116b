#include "devices/block/file_engine.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace holdfast::block {
namespace {

constexpr size_t kMemoryAlignment = 512;  // What O_DIRECT asks of addresses.
constexpr size_t kPageSize = 4096;
constexpr size_t kBounceSize = 128 * 1024;  // Holds two blocks at least.
constexpr size_t kZeroesSize = 64 * 1024;

// One a thread, allocated with the thread: the steady state allocates nothing.
alignas(kPageSize) thread_local uint8_t bounce[kBounceSize];
// Only ever read; Buffer has no word for that.
alignas(kPageSize) uint8_t zeroes[kZeroesSize];

// Walks over buffers as parts of them are taken.
class Cursor {
 public:
  explicit Cursor(absl::Span<const Buffer> buffers) : rest_(buffers) { Skip(); }

  bool done() const { return rest_.empty(); }

  // What is left, as far as it fits into `vector`.
  absl::Span<const Buffer> Fill(absl::Span<Buffer> vector) const {
    const size_t n = std::min(vector.size(), rest_.size());
    std::copy_n(rest_.begin(), n, vector.begin());
    if (n > 0) vector[0] = {rest_[0].data + used_, rest_[0].size - used_};
    return vector.first(n);
  }

  void Advance(size_t bytes) {
    while (bytes > 0 && !rest_.empty()) {
      const size_t step = std::min(bytes, rest_[0].size - used_);
      used_ += step;
      bytes -= step;
      Skip();
    }
  }

  // Calls copy(memory, size) for each piece of the next `size` bytes and
  // advances.
  template <typename Copy>
  void Take(size_t size, Copy copy) {
    while (size > 0 && !rest_.empty()) {
      const size_t step = std::min(size, rest_[0].size - used_);
      copy(rest_[0].data + used_, step);
      size -= step;
      Advance(step);
    }
  }

 private:
  void Skip() {
    while (!rest_.empty() && used_ == rest_[0].size) {
      rest_.remove_prefix(1);
      used_ = 0;
    }
  }

  absl::Span<const Buffer> rest_;
  size_t used_ = 0;
};

size_t TotalSize(absl::Span<const Buffer> buffers) {
  size_t total = 0;
  for (const Buffer& buffer : buffers) total += buffer.size;
  return total;
}

// Calls `call` until no signal interrupts it.
template <typename Call>
auto Uninterrupted(Call call) {
  for (;;) {
    const auto result = call();
    if (result != -EINTR) return result;
  }
}

absl::Status StatusOf(int64_t result, absl::string_view what) {
  if (result >= 0) return absl::OkStatus();
  return ErrnoStatus(static_cast<int>(-result), what);
}

}  // namespace

FileEngine::FileEngine(std::unique_ptr<ImageFile> file)
    : file_(std::move(file)),
      block_size_(file_->block_size()),
      alignment_(file_->alignment()) {}

absl::StatusOr<uint64_t> FileEngine::Size() const {
  const int64_t size = file_->Size();
  RETURN_IF_ERROR(StatusOf(size, "lseek on the image"));
  return static_cast<uint64_t>(size);
}

absl::Status FileEngine::Read(uint64_t offset,
                              absl::Span<const Buffer> buffers) {
  return Transfer(Direction::kRead, offset, buffers);
}

absl::Status FileEngine::Write(uint64_t offset,
                               absl::Span<const Buffer> buffers) {
  return Transfer(Direction::kWrite, offset, buffers);
}

// Not repeated but for a signal: after an error the kernel may have dropped
// what it could not write, and would call a second attempt a success.
absl::Status FileEngine::Flush() {
  return StatusOf(Uninterrupted([&] { return file_->Sync(); }), "fdatasync");
}

absl::Status FileEngine::Discard(uint64_t offset, uint64_t size) {
  const uint64_t mask = block_size_ - 1;
  const uint64_t begin = (offset + mask) & ~mask;
  const uint64_t end = (offset + size) & ~mask;
  if (begin >= end) return absl::OkStatus();
  return StatusOf(
      Uninterrupted([&] { return file_->PunchHole(begin, end - begin); }),
      "fallocate");
}

absl::Status FileEngine::WriteZeroes(uint64_t offset, uint64_t size,
                                     bool unmap) {
  if ((offset | size) % block_size_ == 0) {
    if (unmap && Discard(offset, size).ok()) return absl::OkStatus();
    if (Uninterrupted([&] { return file_->ZeroRange(offset, size); }) == 0) {
      return absl::OkStatus();
    }
  }
  while (size > 0) {
    const Buffer part = {zeroes, std::min<uint64_t>(size, kZeroesSize)};
    RETURN_IF_ERROR(Write(offset, {&part, 1}));
    offset += part.size;
    size -= part.size;
  }
  return absl::OkStatus();
}

bool FileEngine::Aligned(uint64_t offset,
                         absl::Span<const Buffer> buffers) const {
  uint64_t in_file = offset;
  uintptr_t in_memory = 0;
  for (const Buffer& buffer : buffers) {
    in_file |= buffer.size;
    in_memory |= reinterpret_cast<uintptr_t>(buffer.data);
  }
  return in_file % alignment_ == 0 && in_memory % kMemoryAlignment == 0;
}

absl::Status FileEngine::Transfer(Direction direction, uint64_t offset,
                                  absl::Span<const Buffer> buffers) {
  if (!file_->direct() || Aligned(offset, buffers)) {
    return Move(direction, offset, buffers);
  }
  std::unique_lock<std::mutex> lock(partial_writes_, std::defer_lock);
  if (direction == Direction::kWrite &&
      (offset | TotalSize(buffers)) % alignment_ != 0) {
    lock.lock();
  }
  return Bounce(direction, offset, buffers);
}

// Moves whole blocks between file and bounce buffer, and of these what is asked
// for between bounce buffer and `buffers`.
absl::Status FileEngine::Bounce(Direction direction, uint64_t offset,
                                absl::Span<const Buffer> buffers) {
  Cursor cursor(buffers);
  for (size_t left = TotalSize(buffers); left > 0;) {
    const size_t skip = offset % alignment_;
    const size_t size = std::min(left, kBounceSize - skip);
    const uint64_t start = offset - skip;
    const size_t whole =
        (skip + size + alignment_ - 1) / alignment_ * alignment_;
    uint8_t* at = bounce + skip;
    if (direction == Direction::kWrite) {
      RETURN_IF_ERROR(ReadEdges(start, skip, size));
      cursor.Take(size, [&](const uint8_t* memory, size_t n) {
        std::memcpy(at, memory, n);
        at += n;
      });
    }
    const Buffer blocks = {bounce, whole};
    RETURN_IF_ERROR(Move(direction, start, {&blocks, 1}));
    if (direction == Direction::kRead) {
      cursor.Take(size, [&](uint8_t* memory, size_t n) {
        std::memcpy(memory, at, n);
        at += n;
      });
    }
    offset += size;
    left -= size;
  }
  return absl::OkStatus();
}

// Reads the first and the last block of bounce_[0, skip + size) as far as they
// are not overwritten whole.
absl::Status FileEngine::ReadEdges(uint64_t start, size_t skip, size_t size) {
  const size_t end = skip + size;
  const size_t last = (end - 1) / alignment_ * alignment_;
  if (skip != 0) {
    const Buffer block = {bounce, alignment_};
    RETURN_IF_ERROR(Move(Direction::kRead, start, {&block, 1}));
  }
  if (end % alignment_ != 0 && (last != 0 || skip == 0)) {
    const Buffer block = {bounce + last, alignment_};
    RETURN_IF_ERROR(Move(Direction::kRead, start + last, {&block, 1}));
  }
  return absl::OkStatus();
}

// Moves all of `buffers`, by as many calls as that takes.
absl::Status FileEngine::Move(Direction direction, uint64_t offset,
                              absl::Span<const Buffer> buffers) {
  const bool read = direction == Direction::kRead;
  std::array<Buffer, ImageFile::kMaxBuffers> scratch;
  for (Cursor cursor(buffers); !cursor.done();) {
    const absl::Span<const Buffer> part = cursor.Fill(absl::MakeSpan(scratch));
    const int64_t n = Uninterrupted([&] {
      return read ? file_->Read(offset, part) : file_->Write(offset, part);
    });
    RETURN_IF_ERROR(
        StatusOf(n, read ? "reading the image" : "writing the image"));
    if (n == 0) {
      return absl::OutOfRangeError(read ? "the image ends early: it was cut"
                                        : "the image takes no more bytes");
    }
    cursor.Advance(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace holdfast::block
