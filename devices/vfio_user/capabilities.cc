#include "devices/vfio_user/capabilities.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "devices/vfio_user/json.h"

namespace holdfast::vfio_user {
namespace {

using Kind = JsonValue::Kind;
using Path = absl::Span<const std::string>;

absl::Status WrongType(Path path) {
  return absl::InvalidArgumentError(
      absl::StrCat("version data: ", absl::StrJoin(path, "."),
                   " has a value of the wrong type or size"));
}

absl::Status ReadNumber(Path path, const JsonValue& value, uint32_t& to) {
  if (!value.is_unsigned) return WrongType(path);
  to = static_cast<uint32_t>(
      std::min<uint64_t>(value.number, std::numeric_limits<uint32_t>::max()));
  return absl::OkStatus();
}

absl::Status ReadBool(Path path, const JsonValue& value, bool& to) {
  if (value.kind != Kind::kBool) return WrongType(path);
  to = value.boolean;
  return absl::OkStatus();
}

absl::Status ExpectObject(Path path, const JsonValue& value) {
  return value.kind == Kind::kObject ? absl::OkStatus() : WrongType(path);
}

absl::Status ReadCapability(Path path, const JsonValue& value,
                            Capabilities& out) {
  const std::string& name = path[1];
  if (path.size() == 3) {
    if (name == "twin_socket" && path[2] == "supported") {
      return ReadBool(path, value, out.twin_socket);
    }
    return absl::OkStatus();
  }
  if (name == "max_msg_fds") {
    return ReadNumber(path, value, out.max_message_fds);
  }
  if (name == "max_data_xfer_size") {
    RETURN_IF_ERROR(ReadNumber(path, value, out.max_transfer));
    return out.max_transfer != 0 ? absl::OkStatus() : WrongType(path);
  }
  if (name == "max_dma_maps") {
    return ReadNumber(path, value, out.max_dma_maps);
  }
  if (name == "pgsizes") {
    out.page_sizes = value.number;
    const bool usable = value.is_unsigned && (value.number & 4096) != 0;
    return usable ? absl::OkStatus() : WrongType(path);
  }
  if (name == "twin_socket") return ExpectObject(path, value);
  if (name == "write_multiple") {
    return ReadBool(path, value, out.write_multiple);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Capabilities> ParseCapabilities(absl::string_view json) {
  Capabilities capabilities;
  RETURN_IF_ERROR(
      ReadJson(json, [&](Path path, const JsonValue& value) -> absl::Status {
        if (path.empty()) return ExpectObject(path, value);
        if (path[0] != "capabilities" || path.size() > 3) {
          return absl::OkStatus();
        }
        if (path.size() == 1) return ExpectObject(path, value);
        return ReadCapability(path, value, capabilities);
      }));
  return capabilities;
}

std::string EncodeCapabilities(const Capabilities& capabilities) {
  std::string json = absl::StrCat(
      "{\"capabilities\":{\"max_msg_fds\":", capabilities.max_message_fds,
      ",\"max_data_xfer_size\":", capabilities.max_transfer,
      ",\"max_dma_maps\":", capabilities.max_dma_maps,
      ",\"pgsizes\":", capabilities.page_sizes);
  if (capabilities.twin_socket) {
    absl::StrAppend(&json,
                    ",\"twin_socket\":{\"supported\":true,\"fd_index\":0}");
  }
  if (capabilities.write_multiple) {
    absl::StrAppend(&json, ",\"write_multiple\":true");
  }
  absl::StrAppend(&json, "}}");
  return json;
}

}  // namespace holdfast::vfio_user
