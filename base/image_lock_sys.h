#ifndef HOLDFAST_BASE_IMAGE_LOCK_SYS_H_
#define HOLDFAST_BASE_IMAGE_LOCK_SYS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace holdfast {

enum class ImageUse : uint8_t { kRead, kReadAndWrite };

// Takes the lock of a disk image, or of a block device, without waiting. Who
// writes is alone; any number may read. QEMU counts as what it is, a reader or
// a writer, and sees us as one: the locks are those of its raw driver
// (block/file-posix.c, "Image locking" of its manual).
//
// The locks are of the open file description: they end with the last duplicate
// of `image`, in whatever process that is, and are there still after a restart.
// `image` is open for `use`. After an error some of the locks may be held:
// close it.
//
// kUnavailable: "SHOWN is in use by pid 1, pid 2: ...", as far as /proc tells.
absl::Status LockImage(BorrowedFd image, absl::string_view shown, ImageUse use);

}  // namespace holdfast

#endif  // HOLDFAST_BASE_IMAGE_LOCK_SYS_H_
