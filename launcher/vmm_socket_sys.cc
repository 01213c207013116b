#include "launcher/vmm_socket_sys.h"

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/text_file_sys.h"
#include "base/unix_socket_sys.h"
#include "launcher/account_names.h"

namespace holdfast::launcher {
namespace {

absl::StatusOr<uint32_t> Find(absl::string_view field, const char* file,
                              const std::string& name) {
  const std::optional<uint32_t> id = FindAccount(ReadTextFile(file), name);
  if (id.has_value()) return *id;
  return absl::NotFoundError(absl::StrCat(field, ": '", name, "' is not in ",
                                          file,
                                          ": correct it, or give a number"));
}

// Its names are looked up in /etc/passwd and /etc/group.
absl::StatusOr<SocketAccess> AccessOf(const LaunchSpec& spec) {
  SocketAccess access;
  if (!spec.socket_owner.empty()) {
    ASSIGN_OR_RETURN(access.owner,
                     Find("socket_owner", "/etc/passwd", spec.socket_owner));
  }
  if (!spec.socket_group.empty()) {
    ASSIGN_OR_RETURN(access.group,
                     Find("socket_group", "/etc/group", spec.socket_group));
  }
  access.mode = spec.socket_mode;
  if (access.mode == 0) access.mode = spec.socket_group.empty() ? 0600 : 0660;
  return access;
}

}  // namespace

absl::StatusOr<UniqueFd> MakeVmmSocket(const LaunchSpec& spec) {
  ASSIGN_OR_RETURN(const SocketAccess access, AccessOf(spec));
  absl::StatusOr<UniqueFd> listener = ListenAt(spec.socket_path, access);
  if (listener.ok()) return listener;
  return absl::Status(
      listener.status().code(),
      absl::StrCat("socket_path: ", listener.status().message()));
}

}  // namespace holdfast::launcher
