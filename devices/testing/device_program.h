#ifndef HOLDFAST_DEVICES_TESTING_DEVICE_PROGRAM_H_
#define HOLDFAST_DEVICES_TESTING_DEVICE_PROGRAM_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/testing/temp_dir.h"
#include "base/unique_fd.h"

namespace holdfast::testing {

// A device's binary as a person runs it: no launcher, no store, no sandbox.
// Killed and waited for by the destructor; dies with the test. Threads: one.
class DeviceProgram {
 public:
  // Starts `program` with `arguments`. `inherited`, if valid, is its
  // descriptor kInheritedFd; no other but 0 to 2 is inherited.
  static absl::StatusOr<std::unique_ptr<DeviceProgram>> Start(
      const std::string& program, const std::vector<std::string>& arguments,
      BorrowedFd inherited = BorrowedFd(-1));
  static constexpr int kInheritedFd = 9;

  DeviceProgram(const DeviceProgram&) = delete;
  DeviceProgram& operator=(const DeviceProgram&) = delete;
  ~DeviceProgram();

  // False once it has ended.
  bool Alive();

  struct Ending {
    int exit_code = -1;  // -1: a signal ended it.
    int signal = 0;
    std::string out;
    std::string err;
  };
  // Waits for its end. kDeadlineExceeded: it lives on, and is killed.
  absl::StatusOr<Ending> Wait(absl::Duration patience);

 private:
  DeviceProgram() = default;
  bool Collect(int options);

  TempDir dir_;  // Of what it prints.
  pid_t pid_ = -1;
  int wait_status_ = 0;
  bool ended_ = false;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_TESTING_DEVICE_PROGRAM_H_
