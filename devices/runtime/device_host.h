#ifndef HOLDFAST_DEVICES_RUNTIME_DEVICE_HOST_H_
#define HOLDFAST_DEVICES_RUNTIME_DEVICE_HOST_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "devices/bus/device_context.h"
#include "devices/bus/device_spec.h"
#include "devices/bus/options.h"
#include "devices/runtime/descriptors.h"
#include "statestore/lane.h"
#include "statestore/segment.h"
#include "statestore/transaction.h"

namespace holdfast {

// What a host works with. All of it outlives the host.
struct HostServices {
  DescriptorSlots* descriptors = nullptr;
  DescriptorKeeper* keeper = nullptr;
  const Segment* segment = nullptr;
  const DeviceOptions* options = nullptr;
  // Slots of the device's resources, by name.
  const std::map<std::string, store::Slot>* resources = nullptr;

  // Invalid: it was not given.
  BorrowedFd Resource(absl::string_view name) const {
    const auto found = resources->find(std::string(name));
    return found == resources->end() ? BorrowedFd(-1)
                                     : descriptors->Get(found->second);
  }
  Resources AllResources() const {
    Resources all;
    for (const auto& [name, slot] : *resources) {
      all.Set(name, descriptors->Get(slot));
    }
    return all;
  }
};

// A device and the protocol that it is served by, as a process runs them. All
// that must outlive the process is in the segment and in descriptor slots: a
// new host over the same ones goes on.
//
//   Build -> (sandbox) -> [ MapAhead, TouchSome ]* -> Resume -> [ Serve ]*
//
// Control thread only. What comes before Build may be asked of any host, and
// costs nothing.
class DeviceHost {
 public:
  virtual ~DeviceHost() = default;

  // The highest version of what a guest can see that this program serves.
  virtual uint32_t compat_version() const = 0;
  virtual const std::vector<ResourceSpec>& resources() const = 0;
  // Adds what is kept of state, queues and session. Errors: the device's
  // description breaks a rule.
  virtual absl::Status AddTo(SegmentSpec& spec) const = 0;
  virtual LaneSizes lane_sizes() const = 0;

  // Makes device, threads and everything else that the steady state must not;
  // deposits the descriptors that an instance has for life, when it has none.
  // Afterwards nothing makes a thread or opens a file.
  virtual absl::Status Build(const HostServices& services) = 0;

  // While parked: maps what the committed session of another process names, so
  // that nothing is left to map later. Trusts nothing that it reads.
  virtual void MapAhead() = 0;
  // Faults in a slice of what is mapped; false: nothing is left.
  virtual bool TouchSome() = 0;

  // Takes over what `lane` and `state` hold; both outlive the last call. Once
  // more, after Quiesce, with others.
  virtual absl::Status Resume(Lane& lane, StateBank& state) = 0;

  // How the VMM's socket is waited for: kLevel, or kEdge, which is for many
  // messages and needs two system calls more.
  virtual Lane::Waiting waiting() const { return Lane::Waiting::kLevel; }

  enum class Served { kIdle, kDisconnected };
  // Handles what the VMM has sent; `waiting` as for Lane::Run. kDisconnected:
  // the connection is over, by the VMM's end or by its mistake; its session is
  // forgotten and the keeper has been told.
  virtual absl::StatusOr<Served> Serve(Lane::Waiting waiting) = 0;

  // Serve is to be called after so long even if nothing happens; -1: it need
  // not.
  virtual int pause_ms() const { return -1; }

  // Becomes readable when there is something to do that the VMM's socket does
  // not show: then call OnEvent. May be another one after each call.
  virtual BorrowedFd event() const = 0;
  // Others of the same meaning; invalid: none.
  virtual BorrowedFd other_event() const { return BorrowedFd(-1); }
  virtual BorrowedFd third_event() const { return BorrowedFd(-1); }
  virtual BorrowedFd fourth_event() const { return BorrowedFd(-1); }
  virtual void OnEvent() = 0;

  // Another stream of the VMM's, waited for by edge: what comes there is served
  // with the rest. Invalid: there is none.
  virtual BorrowedFd other_stream() const { return BorrowedFd(-1); }

  // Somebody says that a resource has changed; perhaps again, and perhaps while
  // this process is parked.
  virtual void ResourceChanged() = 0;

  // Whether this resource may be another descriptor any time, in the process
  // that serves and in those that wait; every other one stays for life.
  virtual bool IsReplaceable(absl::string_view) const { return false; }
  // One of those is another one, or the same again. Not before Resume.
  virtual void ResourceReplaced() {}

  // Ends what is being done and begins nothing more until Resume.
  virtual void Quiesce() = 0;
};

// A kind of device, as the program's main() knows it.
struct DeviceClass {
  std::vector<OptionSpec> options;
  // The protocol by which it is served, for people: "vhost-user".
  std::string protocol;
  // With options that the guest's administrator has given, or with none.
  std::function<absl::StatusOr<std::unique_ptr<DeviceHost>>(
      const DeviceOptions&)>
      open;
  // --print-capabilities: JSON.
  std::function<absl::StatusOr<std::string>(const DeviceOptions&)> describe;
  // The same device by other protocols: --protocol chooses.
  std::vector<DeviceClass> others;

  // Null: there is no such protocol. "": this one.
  const DeviceClass* By(absl::string_view name) const {
    if (name.empty() || name == protocol) return this;
    for (const DeviceClass& other : others) {
      if (other.protocol == name) return &other;
    }
    return nullptr;
  }
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_DEVICE_HOST_H_
