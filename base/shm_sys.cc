#include "base/shm_sys.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/errno_status.h"

// Newer than Debian 12's headers.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace holdfast {
namespace {

// A thread inside munmap() dies, when it is killed, only at its end; and a
// device that dies slowly is replaced late. So not more than this at once.
constexpr size_t kUnmapSlice = size_t{4} << 20;

void Unmap(void* address, size_t size) {
  auto* at = static_cast<uint8_t*>(address);
  for (; size > kUnmapSlice; at += kUnmapSlice, size -= kUnmapSlice) {
    // Of huge pages larger than a slice: all at once.
    if (munmap(at, kUnmapSlice) != 0) break;
  }
  munmap(at, size);
}

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (address_ != nullptr) Unmap(address_, size_);
    address_ = std::exchange(other.address_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) Unmap(address_, size_);
}

absl::StatusOr<UniqueFd> CreateSealedMemfd(const char* name, size_t size) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd fd(memfd_create(name, kFlags | MFD_NOEXEC_SEAL));
  if (!fd.valid() && errno == EINVAL) fd.Reset(memfd_create(name, kFlags));
  if (!fd.valid()) return ErrnoStatus("memfd_create");
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return ErrnoStatus("ftruncate of a new memfd");
  }
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
      0) {
    return ErrnoStatus("sealing a new memfd");
  }
  return fd;
}

bool IsSealedAgainstShrinking(BorrowedFd fd) {
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

absl::StatusOr<uint64_t> FileSize(BorrowedFd fd) {
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return ErrnoStatus("fstat");
  return static_cast<uint64_t>(st.st_size);
}

absl::StatusOr<Mapping> MapShared(BorrowedFd fd, uint64_t offset, size_t size,
                                  MapAccess access) {
  const int protection =
      access == MapAccess::kReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  void* address = mmap(nullptr, size, protection, MAP_SHARED, fd.get(),
                       static_cast<off_t>(offset));
  if (address == MAP_FAILED) return ErrnoStatus("mmap");
  return Mapping(address, size);
}

}  // namespace holdfast
