#ifndef HOLDFAST_DEVICES_TESTING_CONFORMANCE_STEPS_H_
#define HOLDFAST_DEVICES_TESTING_CONFORMANCE_STEPS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/testing/temp_dir.h"
#include "devices/testing/conformance_target.h"
#include "devices/testing/device_program.h"
#include "devices/vhost_user/testing/front_end.h"

// What the checks of the conformance suite have in common.

namespace holdfast::testing {

// The files that a device wants, made of zeroes.
class ResourceFiles {
 public:
  static absl::StatusOr<std::unique_ptr<ResourceFiles>> Make(
      const ConformanceTarget& target);

  // The target's own arguments and --NAME=PATH for each file.
  std::vector<std::string> Arguments(const ConformanceTarget& target) const;
  const std::map<std::string, std::string>& paths() const { return paths_; }

 private:
  ResourceFiles() = default;
  TempDir dir_;
  std::map<std::string, std::string> paths_;  // By the resource's name.
};

// A device program that listens on a socket of its own.
class ServedDevice {
 public:
  static absl::StatusOr<std::unique_ptr<ServedDevice>> Start(
      const ConformanceTarget& target,
      const std::vector<std::string>& more_arguments = {});

  std::string socket_path() const { return dir_.File("vmm"); }
  // A front-end that is connected, and no more.
  absl::StatusOr<std::unique_ptr<FrontEnd>> ConnectOnly(
      const FrontEnd::Options& options);
  // One that has been through FrontEnd::Start().
  absl::StatusOr<std::unique_ptr<FrontEnd>> Connect(
      const FrontEnd::Options& options);
  absl::StatusOr<std::unique_ptr<FrontEnd>> Connect();

  // The device still runs, and serves a new VMM.
  absl::Status CheckServes();
  absl::Status CheckAlive();
  // Ends it. What it has said on standard error.
  std::string Kill();

 private:
  explicit ServedDevice(const ConformanceTarget& target) : target_(target) {}

  const ConformanceTarget target_;
  TempDir dir_;
  std::unique_ptr<ResourceFiles> files_;
  std::unique_ptr<DeviceProgram> program_;
};

// For the target's patience.
FrontEnd::Options FrontEndOptions(const ConformanceTarget& target);

// The target's request is answered on queue 0, and the driver has seen nothing
// wrong so far.
absl::Status Serves(FrontEnd& vmm, const ConformanceTarget& target);

// The driver has seen nothing wrong and waits for nothing.
absl::Status CheckDriver(FrontEnd& vmm);

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_TESTING_CONFORMANCE_STEPS_H_
