#ifndef HOLDFAST_DEVICES_TESTING_MANAGED_DEVICE_SYS_H_
#define HOLDFAST_DEVICES_TESTING_MANAGED_DEVICE_SYS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "sandbox/jail_sys.h"
#include "statestore/store/testing/store_process_sys.h"

namespace holdfast::testing {

// A real device binary under a real store, in its real sandbox, with nobody
// but the test as its launcher: the smallest system in which a kill can be
// survived. One instance, one active child, one standby.
class ManagedDevice {
 public:
  struct Options {
    std::string program;  // Of the device.
    std::vector<std::string> arguments;
    std::string policy;  // File.
    std::vector<std::string> policy_includes;
    std::string store_program;
    std::map<std::string, std::string> resources;  // Name -> path.
    BorrowedFd log{2};  // Where the children's standard error goes.
    // For negative controls and measurements.
    bool confined = true;
  };

  static absl::StatusOr<std::unique_ptr<ManagedDevice>> Start(
      const Options& options);
  ~ManagedDevice();

  const std::string& socket_path() const { return socket_path_; }
  BorrowedFd segment() const { return segment_; }
  store::testing::StoreProcess& store() { return *store_; }
  pid_t active_pid() const;

  // SIGKILLs (or another signal) the active child and waits until its successor
  // is active.
  struct Recovery {
    uint64_t epoch = 0;
    double death_to_promotion_us = 0;  // By the store's clock.
    int wait_status = 0;               // Of the one that died.
  };
  absl::StatusOr<Recovery> Kill(int signal);
  // Waits for a death that something else causes.
  absl::StatusOr<Recovery> AwaitRecovery();
  // Makes a new standby and waits until it is parked.
  absl::Status AddStandby();
  // Tells the active child what the launcher says after `holdfast resize`.
  absl::Status TellResourceChanged();

 private:
  struct Child {
    store::ChildId id = 0;
    sandbox::JailedProcess process;
    UniqueFd control;
  };

  explicit ManagedDevice(const Options& options) : options_(options) {}
  absl::Status Setup();
  absl::Status Spawn();
  Child* Find(store::ChildId id);

  const Options options_;
  std::string directory_;
  std::string socket_path_;
  UniqueFd segment_;
  UniqueFd filter_;
  std::vector<sock_filter> startup_filter_;
  std::map<std::string, store::Slot> slots_;
  std::unique_ptr<store::testing::StoreProcess> store_;
  std::vector<Child> children_;
  store::ChildId next_child_ = 1;
  store::ChildId active_ = 0;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_TESTING_MANAGED_DEVICE_SYS_H_
