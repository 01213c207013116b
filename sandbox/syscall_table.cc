#include "sandbox/syscall_table.h"

namespace holdfast::sandbox {
namespace {

struct Named {
  absl::string_view name;
  uint64_t value;
};

constexpr Named kSyscalls[] = {
#include "sandbox/syscall_names.inc"
    // Newer than Debian 12's headers.
    {"cachestat", 451},         {"fchmodat2", 452},
    {"map_shadow_stack", 453},  {"futex_wake", 454},
    {"futex_wait", 455},        {"futex_requeue", 456},
    {"statmount", 457},         {"listmount", 458},
    {"lsm_get_self_attr", 459}, {"lsm_set_self_attr", 460},
    {"lsm_list_modules", 461},  {"mseal", 462},
    {"setxattrat", 463},        {"getxattrat", 464},
    {"listxattrat", 465},       {"removexattrat", 466},
    {"open_tree_attr", 467},
};

// Of the kernel's x86-64 interface, so that reading a policy needs no header
// with system calls in it. A test compares them with the headers.
constexpr Named kConstants[] = {
    {"PROT_READ", 1},
    {"PROT_WRITE", 2},
    {"PROT_EXEC", 4},
    {"MAP_SHARED", 1},
    {"MAP_PRIVATE", 2},
    {"MAP_FIXED", 0x10},
    {"MAP_ANONYMOUS", 0x20},
    {"CLONE_VM", 0x100},
    {"CLONE_THREAD", 0x10000},
    {"CLONE_NEWNS", 0x20000},
    {"CLONE_NEWCGROUP", 0x2000000},
    {"CLONE_NEWUTS", 0x4000000},
    {"CLONE_NEWIPC", 0x8000000},
    {"CLONE_NEWUSER", 0x10000000},
    {"CLONE_NEWPID", 0x20000000},
    {"CLONE_NEWNET", 0x40000000},
    {"CLONE_NEWTIME", 0x80},
    {"F_DUPFD_CLOEXEC", 1030},
    {"F_GETFD", 1},
    {"F_SETFD", 2},
    {"F_GETFL", 3},
    {"F_SETFL", 4},
    {"F_SETLKW", 7},
    {"F_ADD_SEALS", 1033},
    {"F_GET_SEALS", 1034},
    {"AF_UNIX", 1},
    {"AT_EMPTY_PATH", 0x1000},
    {"BLKSSZGET", 0x1268},
    {"BLKIOMIN", 0x1278},
    {"BLKIOOPT", 0x1279},
    {"BLKALIGNOFF", 0x127a},
    {"BLKPBSZGET", 0x127b},
    {"SIGABRT", 6},
    {"SIGKILL", 9},
    {"SOCK_CLOEXEC", 0x80000},
    {"PR_SET_DUMPABLE", 4},
    {"PR_SET_NAME", 15},
    {"PR_SET_NO_NEW_PRIVS", 38},
    {"PR_SET_VMA", 0x53564d41},
    {"SECCOMP_SET_MODE_FILTER", 1},
    {"SOL_SOCKET", 1},
    {"SO_ERROR", 4},
    {"SO_TYPE", 3},
    {"SO_DOMAIN", 39},
    {"SO_PEERCRED", 17},
    {"SO_PEEK_OFF", 42},
    {"SO_COOKIE", 57},
};

constexpr Named kErrnos[] = {
    {"EPERM", 1},   {"ENOENT", 2},  {"EACCES", 13},
    {"EINVAL", 22}, {"ENOTTY", 25}, {"ENOSYS", 38},
};

template <size_t kSize>
absl::optional<uint64_t> Find(const Named (&table)[kSize],
                              absl::string_view name) {
  for (const Named& entry : table) {
    if (entry.name == name) return entry.value;
  }
  return absl::nullopt;
}

}  // namespace

absl::optional<uint32_t> SyscallNumber(absl::string_view name) {
  const absl::optional<uint64_t> number = Find(kSyscalls, name);
  if (!number.has_value()) return absl::nullopt;
  return static_cast<uint32_t>(*number);
}

absl::string_view SyscallName(uint32_t number) {
  for (const Named& entry : kSyscalls) {
    if (entry.value == number) return entry.name;
  }
  return {};
}

absl::optional<uint64_t> ArgumentConstant(absl::string_view name) {
  return Find(kConstants, name);
}

absl::optional<uint32_t> ErrnoConstant(absl::string_view name) {
  const absl::optional<uint64_t> number = Find(kErrnos, name);
  if (!number.has_value()) return absl::nullopt;
  return static_cast<uint32_t>(*number);
}

}  // namespace holdfast::sandbox
