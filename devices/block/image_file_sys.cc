#include "devices/block/image_file_sys.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace holdfast::block {
namespace {

constexpr int kSmallestBlock = 512;
constexpr int kLargestBlock = 64 * 1024;  // The kernel knows no larger ones.

// Buffers are handed to the kernel as they are.
static_assert(sizeof(Buffer) == sizeof(iovec));
static_assert(offsetof(Buffer, data) == offsetof(iovec, iov_base));
static_assert(offsetof(Buffer, size) == offsetof(iovec, iov_len));

const iovec* Vector(absl::Span<const Buffer> buffers) {
  return reinterpret_cast<const iovec*>(buffers.data());
}

template <typename T>
T Result(T result) {
  return result < 0 ? static_cast<T>(-errno) : result;
}

class SystemFile final : public ImageFile {
 public:
  // `alignment`: of direct I/O; 0: it is not direct.
  SystemFile(BorrowedFd image, uint32_t block_size, uint32_t alignment)
      : image_(image), block_size_(block_size), alignment_(alignment) {}

  uint32_t block_size() const override { return block_size_; }
  bool direct() const override { return alignment_ != 0; }
  uint32_t alignment() const override {
    return direct() ? alignment_ : block_size_;
  }

  int64_t Size() const override {
    return Result<int64_t>(lseek(image_.get(), 0, SEEK_END));
  }
  int64_t Read(uint64_t offset, absl::Span<const Buffer> buffers) override {
    return Result<int64_t>(preadv2(image_.get(), Vector(buffers),
                                   static_cast<int>(buffers.size()),
                                   static_cast<off_t>(offset), 0));
  }
  int64_t Write(uint64_t offset, absl::Span<const Buffer> buffers) override {
    return Result<int64_t>(pwritev2(image_.get(), Vector(buffers),
                                    static_cast<int>(buffers.size()),
                                    static_cast<off_t>(offset), 0));
  }
  int Sync() override { return Result(fdatasync(image_.get())); }
  int PunchHole(uint64_t offset, uint64_t size) override {
    return Allocate(FALLOC_FL_PUNCH_HOLE, offset, size);
  }
  int ZeroRange(uint64_t offset, uint64_t size) override {
    return Allocate(FALLOC_FL_ZERO_RANGE, offset, size);
  }

 private:
  int Allocate(int mode, uint64_t offset, uint64_t size) {
    return Result(fallocate(image_.get(), mode | FALLOC_FL_KEEP_SIZE,
                            static_cast<off_t>(offset),
                            static_cast<off_t>(size)));
  }

  const BorrowedFd image_;
  const uint32_t block_size_;
  const uint32_t alignment_;
};

bool IsBlockSize(uint32_t size) {
  return size >= kSmallestBlock && size <= kLargestBlock &&
         (size & (size - 1)) == 0;
}

absl::StatusOr<int> BlockSize(BorrowedFd image) {
  struct stat file = {};
  if (fstat(image.get(), &file) != 0) return ErrnoStatus("fstat of the image");
  if (!S_ISBLK(file.st_mode)) return kSmallestBlock;
  int size = 0;
  if (ioctl(image.get(), BLKSSZGET, &size) != 0) {
    return ErrnoStatus("ioctl BLKSSZGET on the image");
  }
  if (size < 0 || !IsBlockSize(static_cast<uint32_t>(size))) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the image's logical blocks are ", size,
        " bytes: give a device whose blocks are 512 bytes to 64 KiB"));
  }
  return size;
}

// 0: it does not say.
uint32_t Ask(BorrowedFd image, unsigned long question) {
  unsigned int answer = 0;
  return ioctl(image.get(), question, &answer) == 0 ? answer : 0;
}

// What direct I/O of a file must be aligned to, and its size with it.
absl::StatusOr<uint32_t> DirectAlignment(BorrowedFd image,
                                         uint32_t block_size) {
  struct statx file = {};
  if (statx(image.get(), "", AT_EMPTY_PATH,
            STATX_TYPE | STATX_SIZE | STATX_DIOALIGN, &file) != 0) {
    return ErrnoStatus("statx of the image");
  }
  if (S_ISBLK(file.stx_mode)) return block_size;
  // Linux before 6.1, and file systems that do not tell, take whole sectors.
  const bool told = (file.stx_mask & STATX_DIOALIGN) != 0;
  const uint32_t alignment =
      std::max(told ? file.stx_dio_offset_align : block_size, block_size);
  if (!IsBlockSize(alignment) || file.stx_dio_mem_align > kSmallestBlock) {
    return absl::FailedPreconditionError(
        absl::StrCat("direct I/O of the image must be aligned to ", alignment,
                     " bytes in the file and ", file.stx_dio_mem_align,
                     " in memory: open it without"));
  }
  if (file.stx_size % alignment != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the image has ", file.stx_size,
                     " bytes, and with direct I/O that "
                     "must be a multiple of ",
                     alignment,
                     ": make it longer by truncate, "
                     "or open it without"));
  }
  return alignment;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ImageFile>> OpenImageFile(BorrowedFd image) {
  const int flags = fcntl(image.get(), F_GETFL);
  if (flags < 0) return ErrnoStatus("the image's descriptor");
  ASSIGN_OR_RETURN(const int block_size, BlockSize(image));
  const auto blocks = static_cast<uint32_t>(block_size);
  uint32_t alignment = 0;
  if ((flags & O_DIRECT) != 0) {
    ASSIGN_OR_RETURN(alignment, DirectAlignment(image, blocks));
  }
  return std::unique_ptr<ImageFile>(new SystemFile(image, blocks, alignment));
}

Topology TopologyOf(BorrowedFd image) {
  Topology topology;
  struct stat file = {};
  if (fstat(image.get(), &file) != 0) return topology;
  if (S_ISBLK(file.st_mode)) {
    topology.physical_block = Ask(image, BLKPBSZGET);
    topology.min_io = Ask(image, BLKIOMIN);
    topology.optimal_io = Ask(image, BLKIOOPT);
    // -1: the partition begins nowhere near one.
    const uint32_t offset = Ask(image, BLKALIGNOFF);
    if (offset < topology.physical_block) topology.alignment_offset = offset;
  } else {
    topology.physical_block = static_cast<uint32_t>(file.st_blksize);
    topology.min_io = topology.physical_block;
  }
  if (!IsBlockSize(topology.physical_block)) return Topology();
  return topology;
}

}  // namespace holdfast::block
