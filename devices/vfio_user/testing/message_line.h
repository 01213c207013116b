#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_MESSAGE_LINE_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_MESSAGE_LINE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/message_builder.h"

namespace holdfast::vfio_user {

// A T at `at`; zeros if it does not lie within.
template <typename T>
T Load(const Bytes& bytes, size_t at = 0) {
  T value = {};
  if (at + sizeof(T) <= bytes.size()) {
    std::memcpy(&value, bytes.data() + at, sizeof(T));
  }
  return value;
}

// A command of a client and how many descriptors come with it, as the goldens
// have it: all of it but its id.
inline std::string MessageLine(Command command, const Bytes& p, uint32_t flags,
                               size_t fds) {
  const char* const posted = (flags & kFlagNoReply) != 0 ? " no_reply" : "";
  switch (command) {
    case Command::kVersion:
      return absl::StrCat(
          "VERSION ", Load<Version>(p).major, ".", Load<Version>(p).minor, " ",
          reinterpret_cast<const char*>(p.data()) + sizeof(Version));
    case Command::kDmaMap: {
      const auto map = Load<DmaMap>(p);
      return absl::StrFormat(
          "DMA_MAP flags=%d offset=0x%x address=0x%x size=0x%x fds=%d",
          map.flags, map.offset, map.address, map.size, fds);
    }
    case Command::kDmaUnmap: {
      const auto unmap = Load<DmaUnmap>(p);
      return absl::StrFormat("DMA_UNMAP flags=%d address=0x%x size=0x%x",
                             unmap.flags, unmap.address, unmap.size);
    }
    case Command::kDeviceGetInfo:
      return absl::StrCat("GET_INFO argsz=", Load<uint32_t>(p));
    case Command::kDeviceGetRegionInfo:
      return absl::StrCat("GET_REGION_INFO argsz=", Load<uint32_t>(p),
                          " index=", Load<uint32_t>(p, 8));
    case Command::kDeviceGetIrqInfo:
      return absl::StrCat("GET_IRQ_INFO argsz=", Load<uint32_t>(p),
                          " index=", Load<uint32_t>(p, 8));
    case Command::kDeviceSetIrqs:
      return absl::StrFormat(
          "SET_IRQS flags=0x%x index=%d start=%d count=%d fds=%d",
          Load<uint32_t>(p, 4), Load<uint32_t>(p, 8), Load<uint32_t>(p, 12),
          Load<uint32_t>(p, 16), fds);
    case Command::kRegionRead:
    case Command::kRegionWrite: {
      const bool write = command == Command::kRegionWrite;
      const std::string data =
          write && p.size() >= 16
              ? " " + absl::BytesToHexString(absl::string_view(
                          reinterpret_cast<const char*>(p.data()) + 16,
                          p.size() - 16))
              : "";
      return absl::StrFormat("%s region=%d offset=0x%x count=%d%s%s",
                             write ? "REGION_WRITE" : "REGION_READ",
                             Load<uint32_t>(p, 8), Load<uint64_t>(p),
                             Load<uint32_t>(p, 12), data, posted);
    }
    case Command::kDeviceReset:
      return "RESET";
    default:
      return absl::StrCat("command ", static_cast<uint16_t>(command));
  }
}

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_MESSAGE_LINE_H_
