#ifndef HOLDFAST_DEVICES_BUS_DEVICE_CONTEXT_H_
#define HOLDFAST_DEVICES_BUS_DEVICE_CONTEXT_H_

#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "devices/bus/options.h"
#include "statestore/cell.h"
#include "statestore/schema.h"

namespace holdfast {

// Descriptors of a device's resources, by the names that its spec gives them.
class Resources {
 public:
  void Set(const std::string& name, BorrowedFd fd) {
    by_name_.insert_or_assign(name, fd);
  }
  // Invalid: it was not given.
  BorrowedFd Get(absl::string_view name) const {
    const auto found = by_name_.find(std::string(name));
    return found == by_name_.end() ? BorrowedFd(-1) : found->second;
  }

 private:
  std::map<std::string, BorrowedFd> by_name_;
};

// What a device may use, on whatever bus. Lives as long as the device.
// Thread-safe.
class DeviceContext {
 public:
  virtual ~DeviceContext() = default;

  virtual const DeviceOptions& options() const = 0;

  // The descriptor of the resource that the spec named; stays open and the
  // same for the device's life. Invalid when it was not given.
  virtual BorrowedFd Resource(absl::string_view name) const = 0;

  // The handles of the state that the spec declared with State<S>(). The
  // framework has checked that the segment's state fits; a struct that the spec
  // did not declare gives handles whose use fails the transaction.
  template <typename S>
  S State() const {
    absl::StatusOr<S> state = BindState<S>(schema());
    return state.ok() ? *std::move(state) : S{};
  }

 protected:
  virtual const Schema& schema() const = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_DEVICE_CONTEXT_H_
