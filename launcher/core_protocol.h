#ifndef HOLDFAST_LAUNCHER_CORE_PROTOCOL_H_
#define HOLDFAST_LAUNCHER_CORE_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace holdfast::launcher {

// The bounded protocol of RUNDIR/core.sock, SOCK_SEQPACKET: one request or one
// answer is one packet. An answer carries the tag of its request; answers may
// come in another order, since kStop and a waiting kEvents are answered when
// they are done. Pure.
//
// Both ends check everything: the api does not run as root, and the core parses
// what it sends.

inline constexpr uint16_t kCoreProtocolVersion = 5;
// Of one packet. Status of all 32 instances, or 128 events, or the text of a
// spec fit; events beyond are fetched by the next request.
inline constexpr size_t kMaxCorePacket = 160 * 1024;
inline constexpr size_t kMaxEventsInAnswer = 128;
inline constexpr size_t kMaxSpecFileName = 255;  // NAME_MAX.
inline constexpr size_t kMaxSpecText = 65535;
inline constexpr size_t kMaxRefusal = 2048;

// The api says kBeat this often; silent for so long, it hangs and is replaced.
inline constexpr absl::Duration kBeatInterval = absl::Seconds(1);
inline constexpr absl::Duration kBeatPatience = absl::Seconds(5);

enum class Op : uint16_t {
  kRun = 1,        // spec -> nothing
  kList = 2,       // -> statuses, all
  kStatus = 3,     // instance -> statuses, one
  kStop = 4,       // instance -> nothing, when everything of it is gone
  kRestart = 5,    // instance -> nothing, as soon as it is asked for
  kInject = 6,     // instance, fault, target -> nothing
  kEvents = 7,     // since, wait -> events
  kStateDump = 8,  // instance -> nothing; 1 descriptor: the segment, read-only
  kResize = 9,     // instance -> nothing, as soon as its processes are told
  kBeat = 10,      // The api lives; never answered.
  kNextSpec = 11,  // -> file, the first that is not read; no name: none is left
  kSpecRead = 12,  // file; spec, or refusal -> nothing, when that is dealt with
  kReplace = 13,   // instance, spec -> nothing, when its program is another one
};

enum class Fault : uint8_t { kKill = 0, kStop = 1, kSegv = 2 };
enum class FaultTarget : uint8_t {
  kActive = 0,
  kStandby = 1,
  kStore = 2,
  kApi = 3,
  kCore = 4,
  kBackend = 5,  // The wrapped program of an instance.
};
// The signal that brings it about.
int SignalOf(Fault fault);

// A text spec of --spec-dir.
struct SpecFile {
  std::string name;  // In the directory; may have any byte.
  std::string text;
};

struct Request {
  Op op{};
  uint32_t tag = 0;           // Chosen by the asker.
  std::string instance;       // Of those that say so above.
  std::vector<uint8_t> spec;  // kRun, kSpecRead: launcher/spec.h.
  Fault fault{};              // kInject.
  FaultTarget target{};       // kInject; store, api and core need no instance.
  uint64_t since = 0;         // kEvents: those with a larger sequence number.
  bool wait = false;          // kEvents: not before there is one.
  std::string file;           // kSpecRead: the name that kNextSpec gave.
  std::string refusal;        // kSpecRead: why there is no spec; empty: it is.
};

// One thing that happened. All text is of the launcher's own making, but for
// what the api says of a text spec, which is made plain.
struct LaunchEvent {
  uint64_t sequence = 0;      // 1, 2, ...; goes on when the core is restarted.
  int64_t unix_ns = 0;        // Wall clock, for people.
  std::string type;           // "promoted", "lost", "exited", ...
  std::string instance;       // Empty: of the launcher itself.
  int32_t pid = 0;            // 0: none.
  std::string cause;          // "SIGKILL", "sandbox violation (SIGSYS)", ...
  uint64_t microseconds = 0;  // "promoted": death seen to promotion sent.
  std::string detail;
};

// The wrapped program of an instance.
struct BackendStatus {
  std::string binary;     // Empty: nothing is wrapped.
  std::string state;      // LIVING, WAITING, DENIED, ...
  int32_t pid = 0;        // 0: none.
  int32_t spare_pid = 0;  // 0: none.
  uint64_t lives = 0;     // Processes of it that the guest had so far.
  std::string tracking;   // As the keeper was told: "forced", ...
};

struct InstanceStatus {
  std::string name;
  std::string state;  // StateName() of launcher/supervisor.h.
  std::string binary;
  std::string socket_path;
  int32_t active_pid = 0;   // 0: none.
  int32_t standby_pid = 0;  // 0: none.
  bool standby_ready = false;
  bool connected = false;  // A VMM is there.
  uint64_t epoch = 0;      // Promotions so far.
  uint64_t uptime_us = 0;  // Since the instance was accepted.
  uint64_t recoveries = 0;
  uint64_t last_recovery_us = 0;  // Death seen to promotion sent.
  uint64_t max_recovery_us = 0;
  uint64_t median_recovery_us = 0;  // Of the last ones.
  // The last end of a child that nobody had asked for; empty: none yet.
  std::string last_exit_cause;
  int32_t last_exit_pid = 0;
  int64_t last_exit_unix_ns = 0;
  uint64_t segment_bytes = 0;
  uint32_t crash_budget = 0;  // Tokens left.
  // Lost children by cause, such as {"SIGKILL", 3}.
  std::vector<std::pair<std::string, uint64_t>> restarts;
  std::vector<std::string> degraded;  // What the machine did not give.
  BackendStatus backend;
};

// One of the launcher's own processes; counts are since the core's start.
struct ServantStatus {
  std::string name;   // "core", "store", "api".
  int32_t pid = 0;    // 0: it is being restarted.
  uint64_t lost = 0;  // Deaths and hangs.
  std::string last_loss;
  std::vector<std::string> degraded;  // What the machine did not give.
};

struct Answer {
  uint32_t tag = 0;
  absl::Status status;
  std::vector<InstanceStatus> statuses;
  std::vector<ServantStatus> servants;  // kList.
  std::vector<LaunchEvent> events;
  // kEvents: ask for those after this one next time.
  uint64_t last_sequence = 0;
  // kEvents: so many were overwritten before they were asked for.
  uint64_t events_lost = 0;
  SpecFile file;  // kNextSpec.
};

std::vector<uint8_t> EncodeRequest(const Request& request);
absl::StatusOr<Request> DecodeRequest(absl::Span<const uint8_t> bytes);

// Cuts lists and texts, never fails: the result fits in one packet.
std::vector<uint8_t> EncodeAnswer(const Answer& answer);
absl::StatusOr<Answer> DecodeAnswer(absl::Span<const uint8_t> bytes);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_CORE_PROTOCOL_H_
