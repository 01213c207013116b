#ifndef HOLDFAST_LAUNCHER_CORE_CLIENT_SYS_H_
#define HOLDFAST_LAUNCHER_CORE_CLIENT_SYS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "launcher/core_protocol.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// A connection to the core over RUNDIR/core.sock, blocking, for the api and for
// tests. One request at a time; one thread. When the core is restarted calls
// fail with kAborted: whether it was done is not known, and another connection
// is needed.
class CoreClient {
 public:
  static absl::StatusOr<CoreClient> Connect(const std::string& socket_path);
  // Of a connection that exists already.
  explicit CoreClient(UniqueFd connection) : fd_(std::move(connection)) {}

  // Each returns the status of the core's answer, or kAborted (the core is
  // gone), or kDeadlineExceeded (no answer within set_timeout()).
  // What is wrapped is waited for until it has said what it is, but not for
  // ever. kFailedPrecondition: it will not do, and nothing of it is left.
  absl::Status Run(const LaunchSpec& spec);
  absl::StatusOr<std::vector<InstanceStatus>> List();
  struct Everything {
    std::vector<InstanceStatus> instances;
    std::vector<ServantStatus> servants;
  };
  absl::StatusOr<Everything> ListAll();
  absl::StatusOr<InstanceStatus> Status(const std::string& instance);
  // Returns when nothing of the instance is left.
  absl::Status Stop(const std::string& instance);
  // What is wrapped is replaced by the same program: see Replace.
  absl::Status Restart(const std::string& instance);
  // Puts the program that `spec` wraps in the place of what spec.name wraps.
  // Returns when it works, which may take longer than the timeout, as long as
  // such programs are waited for. kFailedPrecondition: it will not do, and
  // nothing changes. kUnavailable: another replacement is going on.
  absl::Status Replace(const LaunchSpec& spec);
  // Returns when its processes are told to look at their resources again.
  absl::Status Resize(const std::string& instance);
  // `instance` is ignored for store, api and core.
  absl::Status Inject(const std::string& instance, Fault fault,
                      FaultTarget target);
  struct Events {
    std::vector<LaunchEvent> events;
    uint64_t last_sequence = 0;  // For the next call.
    uint64_t lost = 0;
  };
  // `wait`: until there is one.
  absl::StatusOr<Events> ReadEvents(uint64_t since, bool wait);
  // The segment, open for reading only.
  absl::StatusOr<UniqueFd> StateDump(const std::string& instance);

  // The first text spec of --spec-dir that is not read yet; no name: none is.
  absl::StatusOr<SpecFile> NextSpec();
  // Has it run, or refused with the error; OK either way. kNotFound: `file` is
  // not, or no longer, the next one.
  absl::Status SpecIsRead(const std::string& file,
                          const absl::StatusOr<LaunchSpec>& spec);

  // For every later call; 10 seconds at first.
  void set_timeout(absl::Duration timeout) { timeout_ = timeout; }

 private:
  // Within timeout_, or `least` if that is longer.
  absl::StatusOr<Answer> Call(Request request, UniqueFd* fd = nullptr,
                              absl::Duration least = absl::ZeroDuration());
  absl::Status AwaitReadable(absl::Duration timeout);

  UniqueFd fd_;
  uint32_t last_tag_ = 0;
  absl::Duration timeout_ = absl::Seconds(10);
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_CORE_CLIENT_SYS_H_
