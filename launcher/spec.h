#ifndef HOLDFAST_LAUNCHER_SPEC_H_
#define HOLDFAST_LAUNCHER_SPEC_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "launcher/restart_policy.h"

namespace holdfast::launcher {

// Limits of a spec. They bound the memory of the core and the size of one
// packet of its protocol; beyond them a spec is refused with the field's name.
inline constexpr size_t kMaxInstanceName = 32;  // The store holds 39 bytes.
inline constexpr size_t kMaxPath = 1024;
inline constexpr size_t kMaxSocketPath = 107;  // struct sockaddr_un.
inline constexpr size_t kMaxAccountName = 32;
inline constexpr size_t kMaxArguments = 64;
inline constexpr size_t kMaxArgument = 1024;
inline constexpr size_t kMaxResources = 15;  // The store's resource slots.
inline constexpr uint64_t kMinSegmentBytes = 4096;
inline constexpr uint64_t kMaxSegmentBytes = uint64_t{256} << 20;
inline constexpr size_t kMaxSpecBytes = 32 * 1024;  // Encoded.

enum class ResourceAccess : uint8_t { kReadOnly = 0, kReadWrite = 1 };
enum class ResourceKind : uint8_t { kFile = 0, kBlockDevice = 1 };
// Between launchers and other programs that take open file description locks,
// such as QEMU; held as long as the instance exists.
enum class ResourceLock : uint8_t { kExclusive = 0, kShared = 1 };

// A thing that the launcher opens and the device gets as a descriptor.
struct ResourceSpec {
  std::string name;  // [a-z0-9_]{1,32}; HOLDFAST_RESOURCE_<name> is its slot.
  std::string path;  // Absolute.
  ResourceAccess access = ResourceAccess::kReadWrite;
  ResourceKind kind = ResourceKind::kFile;
  ResourceLock lock = ResourceLock::kExclusive;
  bool direct = false;  // O_DIRECT: its reads and writes pass the page cache.
};

// Limits of each child's process; those of sandbox::ResourceLimits.
struct ChildLimits {
  uint64_t open_files = 512;
  uint64_t threads = 64;
  uint64_t file_size = UINT64_MAX;
  uint64_t locked_memory = uint64_t{8} << 20;
};

// Limits of all processes of an instance together, by control groups; 0: none.
// Memory counts what they touch first, the guest's memory too.
struct GroupLimits {
  uint64_t memory = 0;       // Bytes.
  uint32_t tasks = 0;        // Processes and threads.
  uint32_t cpu_percent = 0;  // 100: one processor.
};

// How a wrapped program gets the socket of its front-end: as the descriptor
// that stands for "{fd}" in its arguments, or by listening at "{path}".
enum class BackendHandover : uint8_t {
  kListeningFd = 0,
  kConnectedFd = 1,
  kListeningPath = 2,
};

// A vhost-user back-end that knows nothing of holdfast and runs behind a
// keeper, which is the `binary` of the spec then.
struct BackendSpec {
  std::string binary;             // Absolute path; empty: there is none.
  std::vector<std::string> args;  // After argv[0].
  BackendHandover handover = BackendHandover::kListeningFd;
  bool standby = false;  // A second one is started ahead.
  // It never waits for anything, so at a real-time priority it would take its
  // processors from everybody: it gets none, whatever the instance has.
  bool polls = false;
  // What it reads and writes is read and written by calls of its own threads,
  // and by nothing that works beside them. It is refused io_uring and the
  // kernel's AIO, and the next one takes over as soon as it has no thread.
  bool synchronous = false;
};

// What one instance is made of: checked by ValidateSpec before anybody acts on
// it. The api makes it from text, the core alone decides by it.
struct LaunchSpec {
  std::string name;               // [a-z0-9-]{1,32}
  std::string binary;             // Absolute path of the device program.
  std::vector<std::string> args;  // After argv[0].
  // Where the VMM connects; empty: nowhere.
  std::string socket_path;
  // Who may: names of /etc/passwd and /etc/group, or numbers; empty: root.
  std::string socket_owner;
  std::string socket_group;
  // Permissions, within 0666; 0: 0600, or 0660 when there is a group.
  uint32_t socket_mode = 0;
  std::vector<ResourceSpec> resources;
  uint64_t segment_bytes = uint64_t{1} << 20;  // A multiple of 4096.
  // The children's user and group; 0: the launcher takes a free one of its
  // range. A fixed one must lie in that range too.
  uint32_t uid = 0;
  ChildLimits limits;
  GroupLimits group_limits;
  // Path of the sandbox policy; empty: no system call filter, which status
  // reports as degraded.
  std::string policy;
  // False: the launcher's own ids, namespaces and capabilities, for programs
  // that cannot be confined; reported as degraded.
  bool confined = true;
  bool standby = true;
  // SCHED_FIFO priority of the children, and of the processes of a backend that
  // does not poll, 1 to 49; the store then runs above them. 0: normal.
  uint32_t realtime_priority = 0;
  RestartLimits restart;
  BackendSpec backend;
};

// kInvalidArgument with the field, what is wrong and what to do, such as
// "resources[0].path: 'disk.img' is not absolute: give the whole path".
absl::Status ValidateSpec(const LaunchSpec& spec);

// The bounded binary form between api or command line and the core, and of the
// record that the store keeps. Little-endian, with a version; what a version
// does not know is refused, never skipped. Version 3, in records of launchers
// before, had no ResourceSpec::direct, version 4 no backend,
// version 5 no BackendSpec::polls, version 6 no BackendSpec::synchronous; all
// are read.
inline constexpr uint32_t kSpecMagic = 0x50534648;  // "HFSP"
inline constexpr uint16_t kSpecVersion = 7;

// Precondition: ValidateSpec(spec) is OK.
std::vector<uint8_t> EncodeSpec(const LaunchSpec& spec);

// Parses and validates. `bytes` may be anything.
absl::StatusOr<LaunchSpec> DecodeSpec(absl::Span<const uint8_t> bytes);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_SPEC_H_
