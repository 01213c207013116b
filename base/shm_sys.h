#ifndef HOLDFAST_BASE_SHM_SYS_H_
#define HOLDFAST_BASE_SHM_SYS_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace holdfast {

// Owns one mapping and unmaps it. Movable, not copyable. The address stays the
// same over moves.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* address, size_t size) : address_(address), size_(size) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  bool valid() const { return address_ != nullptr; }
  uint8_t* data() const { return static_cast<uint8_t*>(address_); }
  size_t size() const { return size_; }
  absl::Span<uint8_t> span() const { return {data(), size_}; }

 private:
  void* address_ = nullptr;
  size_t size_ = 0;
};

enum class MapAccess { kReadOnly, kReadWrite };

// Makes a memfd of `size` bytes, close-on-exec, not executable where the
// kernel knows MFD_NOEXEC_SEAL, and seals it against shrinking, growing and
// further seals, so that a mapping of it can never raise SIGBUS.
absl::StatusOr<UniqueFd> CreateSealedMemfd(const char* name, size_t size);

// Whether `fd` is a memfd that nobody can shrink any more.
bool IsSealedAgainstShrinking(BorrowedFd fd);

// Size of the file behind `fd` in bytes.
absl::StatusOr<uint64_t> FileSize(BorrowedFd fd);

// Maps [offset, offset + size) of `fd` shared, never executable. `offset` must
// be a multiple of the page size. Errors: those of mmap(2).
absl::StatusOr<Mapping> MapShared(BorrowedFd fd, uint64_t offset, size_t size,
                                  MapAccess access);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_SHM_SYS_H_
