#ifndef HOLDFAST_DEVICES_BUS_VIRTIO_DEVICE_H_
#define HOLDFAST_DEVICES_BUS_VIRTIO_DEVICE_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "devices/bus/device_context.h"
#include "devices/bus/request.h"
#include "devices/bus/txn.h"
#include "devices/bus/virtio_spec.h"

namespace holdfast {

// What a device may use. Lives as long as the device. Thread-safe.
class VirtioContext : public DeviceContext {
 public:
  // The compat version of the guest: what it is to see, from its first start
  // to its end, whatever the device has learned since.
  virtual uint32_t guest_version() const = 0;

  // Tells the driver that configuration space has changed. At least once: may
  // repeat after a crash.
  virtual void NotifyConfigChange() = 0;
};

// A VIRTIO device as its author writes it (VIRTIO 1.2, section 2). The same
// class is served over every protocol; it never sees a socket, a message, an
// eventfd or a thread.
//
// Life cycle:
//
//   construct --> [ ReadConfig, WriteConfig, OnRequest ... ] --> Reset --+
//                   ^                                                    |
//                   +----------------------------------------------------+
//
// A crash or an upgrade ends the object anywhere and constructs a new one in
// another process, with the same state. There is no save and no restore.
//
// Threading law:
//  - One queue, one thread at a time, unless its spec asks for more workers:
//    then OnRequest runs on several threads at once, also for one queue.
//  - Different queues run on different threads.
//  - ReadConfig, WriteConfig and Reset run on the control thread; all queues
//    are stopped before Reset. ReadConfig may run beside OnRequest.
//  - The constructor runs before the steady-state sandbox applies: open,
//    measure and allocate there, and nowhere else.
//
// Mistakes of the guest are absl::Status, never a CHECK: the request is then
// completed with no bytes written, counted and logged.
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  // Serves one request. Completes it with txn.Complete(). After a crash the
  // same request may come again; what `txn` records takes effect exactly once,
  // effects outside (disk writes, packets) at least once. An error aborts the
  // transaction.
  virtual absl::Status OnRequest(Request& request, Txn& txn) = 0;

  // Answers a request that killed its executor twice, with an error of the
  // device's protocol. The default completes it with no bytes written.
  virtual void OnPoisoned(Request& request, Txn& txn) {
    txn.Complete(request, 0);
  }

  // Reads device configuration space; [offset, offset + size) lies inside it.
  virtual void ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const {
    (void)offset;
    for (uint8_t& byte : out) byte = 0;
  }

  // The driver writes configuration space; the range lies inside it.
  virtual absl::Status WriteConfig(uint32_t offset,
                                   absl::Span<const uint8_t> bytes) {
    (void)offset;
    (void)bytes;
    return absl::PermissionDeniedError("configuration space is read-only");
  }

  // The driver has accepted these device features (VIRTIO 1.2, section 2.2);
  // all queues are stopped. Comes again in a successor.
  virtual void OnFeatures(uint64_t accepted) { (void)accepted; }

  // Outside events may have changed a resource (a disk has grown): look again
  // and call NotifyConfigChange() if the driver should.
  virtual void OnResourceChanged() {}

  // The driver has reset the device.
  virtual void Reset() {}
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_VIRTIO_DEVICE_H_
