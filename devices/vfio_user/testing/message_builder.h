#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_MESSAGE_BUILDER_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_MESSAGE_BUILDER_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/migration_message.h"

namespace holdfast::vfio_user {

using Bytes = std::vector<uint8_t>;

template <typename T>
void AppendTo(Bytes& bytes, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  const size_t at = bytes.size();
  bytes.resize(at + sizeof(value));
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

// The bytes of the parts, one after the other.
template <typename... Parts>
Bytes Join(const Parts&... parts) {
  Bytes bytes;
  (AppendTo(bytes, parts), ...);
  return bytes;
}

inline Bytes Join(const Bytes& head, const Bytes& tail) {
  Bytes bytes = head;
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  return bytes;
}

// A message with any header; its size is right.
inline Bytes RawMessage(MessageHeader header, const Bytes& payload) {
  header.size = static_cast<uint32_t>(sizeof(header) + payload.size());
  return Join(Join(header), payload);
}

inline Bytes CommandMessage(Command command, const Bytes& payload = {},
                            uint32_t flags = 0, uint16_t id = 7) {
  return RawMessage({id, static_cast<uint16_t>(command), 0, flags, 0}, payload);
}

inline Bytes ReplyMessage(Command command, const Bytes& payload = {},
                          uint16_t id = 7) {
  return CommandMessage(command, payload, kFlagReply, id);
}

inline Bytes ErrorMessage(Command command, uint32_t error, uint16_t id = 7) {
  return RawMessage(
      {id, static_cast<uint16_t>(command), 0, kFlagReply | kFlagError, error},
      {});
}

inline Bytes VersionMessage(uint16_t major, uint16_t minor,
                            absl::string_view json) {
  Bytes payload = Join(Version{major, minor});
  payload.insert(payload.end(), json.begin(), json.end());
  payload.push_back(0);
  return CommandMessage(Command::kVersion, payload);
}

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_MESSAGE_BUILDER_H_
