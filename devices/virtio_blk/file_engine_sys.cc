#include "devices/virtio_blk/file_engine_sys.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace holdfast::virtio_blk {
namespace {

// What O_DIRECT asks of address, length and offset: the largest logical block
// size in use.
constexpr size_t kDirectAlignment = 4096;
constexpr size_t kBounceSize = 128 * 1024;

// Buffers are handed to the kernel as they are.
static_assert(sizeof(Buffer) == sizeof(iovec));
static_assert(offsetof(Buffer, data) == offsetof(iovec, iov_base));
static_assert(offsetof(Buffer, size) == offsetof(iovec, iov_len));

enum class Direction { kRead, kWrite };

// Walks over buffers as the kernel takes parts of them.
class Cursor {
 public:
  explicit Cursor(absl::Span<const Buffer> buffers) : rest_(buffers) { Skip(); }

  bool done() const { return rest_.empty(); }

  // Fills `vector` with what is left; returns how many entries.
  int Fill(absl::Span<iovec> vector) const {
    const size_t n = std::min(vector.size(), rest_.size());
    for (size_t i = 0; i < n; ++i) {
      vector[i] = {rest_[i].data, rest_[i].size};
    }
    if (n > 0) {
      vector[0].iov_base = rest_[0].data + used_;
      vector[0].iov_len = rest_[0].size - used_;
    }
    return static_cast<int>(n);
  }

  void Advance(size_t bytes) {
    while (bytes > 0 && !rest_.empty()) {
      const size_t step = std::min(bytes, rest_[0].size - used_);
      used_ += step;
      bytes -= step;
      Skip();
    }
  }

  // Copies up to `size` bytes between the buffers and `bounce`; returns how
  // many. Does not advance.
  size_t Copy(uint8_t* bounce, size_t size, Direction direction) const {
    size_t done = 0, skip = used_;
    for (const Buffer& buffer : rest_) {
      if (done == size) break;
      const size_t step = std::min(size - done, buffer.size - skip);
      if (direction == Direction::kRead) {
        std::memcpy(buffer.data + skip, bounce + done, step);
      } else {
        std::memcpy(bounce + done, buffer.data + skip, step);
      }
      done += step;
      skip = 0;
    }
    return done;
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

bool Aligned(absl::Span<const Buffer> buffers) {
  uintptr_t bits = 0;
  for (const Buffer& buffer : buffers) {
    bits |= reinterpret_cast<uintptr_t>(buffer.data) | buffer.size;
  }
  return bits % 512 == 0;
}

size_t TotalSize(absl::Span<const Buffer> buffers) {
  size_t total = 0;
  for (const Buffer& buffer : buffers) total += buffer.size;
  return total;
}

class FileEngine final : public BlockEngine {
 public:
  FileEngine(BorrowedFd image, bool direct) : image_(image), direct_(direct) {}

  absl::StatusOr<uint64_t> Size() const override {
    const off_t end = lseek(image_.get(), 0, SEEK_END);
    if (end < 0) return ErrnoStatus("lseek on the image");
    return static_cast<uint64_t>(end);
  }

  absl::Status Read(uint64_t offset,
                    absl::Span<const Buffer> buffers) override {
    return Transfer(Direction::kRead, offset, buffers);
  }

  absl::Status Write(uint64_t offset,
                     absl::Span<const Buffer> buffers) override {
    return Transfer(Direction::kWrite, offset, buffers);
  }

  absl::Status Flush() override {
    return fdatasync(image_.get()) == 0 ? absl::OkStatus()
                                        : ErrnoStatus("fdatasync");
  }

  absl::Status Discard(uint64_t offset, uint64_t size) override {
    return Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
  }

  absl::Status WriteZeroes(uint64_t offset, uint64_t size,
                           bool unmap) override {
    if (unmap && Discard(offset, size).ok()) return absl::OkStatus();
    if (Allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, size)
            .ok()) {
      return absl::OkStatus();
    }
    std::memset(bounce_, 0, kBounceSize);
    while (size > 0) {
      const size_t step = std::min<uint64_t>(size, kBounceSize);
      RETURN_IF_ERROR(Whole(Direction::kWrite, offset, step));
      offset += step;
      size -= step;
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Allocate(int mode, uint64_t offset, uint64_t size) {
    int result;
    do {
      result = fallocate(image_.get(), mode, static_cast<off_t>(offset),
                         static_cast<off_t>(size));
    } while (result != 0 && errno == EINTR);
    return result == 0 ? absl::OkStatus() : ErrnoStatus("fallocate");
  }

  ssize_t Once(Direction direction, const iovec* vector, int count,
               uint64_t offset) {
    const off_t at = static_cast<off_t>(offset);
    for (;;) {
      const ssize_t n = direction == Direction::kRead
                            ? preadv2(image_.get(), vector, count, at, 0)
                            : pwritev2(image_.get(), vector, count, at, 0);
      if (n >= 0 || errno != EINTR) return n;
    }
  }

  // Moves bounce_[0, size) whole.
  absl::Status Whole(Direction direction, uint64_t offset, size_t size) {
    for (size_t done = 0; done < size;) {
      const iovec part = {bounce_ + done, size - done};
      const ssize_t n = Once(direction, &part, 1, offset + done);
      if (n < 0) return Failed(direction);
      if (n == 0) return Short(direction);
      done += static_cast<size_t>(n);
    }
    return absl::OkStatus();
  }

  absl::Status Transfer(Direction direction, uint64_t offset,
                        absl::Span<const Buffer> buffers) {
    if (direct_ && !Aligned(buffers)) {
      return Bounce(direction, offset, buffers);
    }
    constexpr size_t kVectors = 64;  // More pieces take more calls.
    iovec vector[kVectors];
    for (Cursor cursor(buffers); !cursor.done();) {
      const int count = cursor.Fill(absl::MakeSpan(vector));
      const ssize_t n = Once(direction, vector, count, offset);
      if (n < 0) return Failed(direction);
      if (n == 0) return Short(direction);
      cursor.Advance(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return absl::OkStatus();
  }

  absl::Status Bounce(Direction direction, uint64_t offset,
                      absl::Span<const Buffer> buffers) {
    size_t left = TotalSize(buffers);
    for (Cursor cursor(buffers); left > 0;) {
      const size_t step = std::min(left, kBounceSize);
      if (direction == Direction::kWrite) {
        cursor.Copy(bounce_, step, direction);
      }
      RETURN_IF_ERROR(Whole(direction, offset, step));
      if (direction == Direction::kRead) {
        cursor.Copy(bounce_, step, direction);
      }
      cursor.Advance(step);
      offset += step;
      left -= step;
    }
    return absl::OkStatus();
  }

  static absl::Status Failed(Direction direction) {
    return ErrnoStatus(direction == Direction::kRead ? "reading the image"
                                                     : "writing the image");
  }
  static absl::Status Short(Direction direction) {
    return absl::OutOfRangeError(direction == Direction::kRead
                                     ? "the image ends early: it was cut"
                                     : "the image takes no more bytes");
  }

  // One a thread, allocated with the thread: the steady state allocates
  // nothing.
  alignas(kDirectAlignment) static thread_local uint8_t bounce_[kBounceSize];

  BorrowedFd image_;
  bool direct_;
};

alignas(kDirectAlignment) thread_local uint8_t FileEngine::bounce_[kBounceSize];

}  // namespace

absl::StatusOr<std::unique_ptr<BlockEngine>> MakeFileEngine(BorrowedFd image) {
  const int flags = fcntl(image.get(), F_GETFL);
  if (flags < 0) return ErrnoStatus("the image's descriptor");
  return std::unique_ptr<BlockEngine>(
      new FileEngine(image, (flags & O_DIRECT) != 0));
}

}  // namespace holdfast::virtio_blk
