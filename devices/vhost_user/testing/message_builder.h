#ifndef HOLDFAST_DEVICES_VHOST_USER_TESTING_MESSAGE_BUILDER_H_
#define HOLDFAST_DEVICES_VHOST_USER_TESTING_MESSAGE_BUILDER_H_

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include "devices/vhost_user/message.h"

namespace holdfast::vhost_user {

// Builds the bytes of messages as a front-end sends them, right or wrong.

// The bytes of a trivially copyable value.
template <typename T>
std::vector<uint8_t> BytesOf(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<uint8_t> bytes(sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::vector<uint8_t> RawMessage(uint32_t request, uint32_t flags,
                                       uint32_t size,
                                       const std::vector<uint8_t>& payload) {
  const MessageHeader header{request, flags, size};
  std::vector<uint8_t> bytes = BytesOf(header);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

inline std::vector<uint8_t> Message(RequestType type,
                                    const std::vector<uint8_t>& payload = {},
                                    bool need_reply = false) {
  return RawMessage(static_cast<uint32_t>(type),
                    kVersion | (need_reply ? kFlagNeedReply : 0),
                    static_cast<uint32_t>(payload.size()), payload);
}

// SET_MEM_TABLE's payload.
inline std::vector<uint8_t> MemoryTablePayload(
    const std::vector<MemoryRegion>& regions) {
  std::vector<uint8_t> bytes =
      BytesOf(MemoryTableHeader{static_cast<uint32_t>(regions.size()), 0});
  for (const MemoryRegion& region : regions) {
    const std::vector<uint8_t> more = BytesOf(region);
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
  return bytes;
}

// GET_CONFIG's and SET_CONFIG's payload.
inline std::vector<uint8_t> ConfigPayload(uint32_t offset, uint32_t flags,
                                          const std::vector<uint8_t>& value) {
  std::vector<uint8_t> bytes =
      BytesOf(ConfigHeader{offset, static_cast<uint32_t>(value.size()), flags});
  bytes.insert(bytes.end(), value.begin(), value.end());
  return bytes;
}

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_TESTING_MESSAGE_BUILDER_H_
