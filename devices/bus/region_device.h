#ifndef HOLDFAST_DEVICES_BUS_REGION_DEVICE_H_
#define HOLDFAST_DEVICES_BUS_REGION_DEVICE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace holdfast {

// Names one access of the VMM. Whoever carries accesses gives each another
// name, ascending in the life of the segment, and repeats an access whose end a
// crash has left open under the same name: the device then does nothing, and
// answers as it did. kNone has no such protection.
enum class AccessId : uint64_t { kNone = 0 };

// A piece of a device's address space.
struct RegionInfo {
  struct Window {
    uint64_t offset = 0;  // Bytes, in the region and in its memory alike.
    uint64_t size = 0;    // Bytes.
  };
  uint64_t size = 0;  // Bytes; 0: the device has no such region.
  bool readable = false;
  bool writable = false;
  // Whole pages that the VMM may map, ascending; empty: none.
  std::vector<Window> windows;
};

// A group of interrupts of one kind.
struct IrqInfo {
  uint32_t count = 0;  // Vectors; 0: the device has none of this kind.
  // A level: after a signal the vector is masked until the VMM unmasks it,
  // which OnUnmask reports; the device then signals again if it must.
  bool level = false;
};

// Where interrupts go.
class IrqSink {
 public:
  virtual ~IrqSink() = default;

  // Interrupts the guest; nothing happens if nobody listens to the vector. At
  // least once: may be called again for the same cause after a crash. Must not
  // block. From any thread.
  virtual void Signal(uint32_t irq, uint32_t vector) = 0;

  // Whether the VMM keeps the guest's table of message vectors itself, as those
  // do that hand vectors on as descriptors: it masks them there, and the
  // device's own table is never written. Constant.
  virtual bool has_vector_table() const { return true; }
};

// What a PCI function's regions and interrupts are called.
inline constexpr uint32_t kPciRomRegion = 6;  // 0 to 5: the BARs.
inline constexpr uint32_t kPciConfigRegion = 7;
inline constexpr uint32_t kPciRegionCount = 9;  // 8: legacy VGA, never there.
inline constexpr uint32_t kPciIntxIrq = 0;
inline constexpr uint32_t kPciMsiIrq = 1;
inline constexpr uint32_t kPciMsixIrq = 2;
inline constexpr uint32_t kPciErrorIrq = 3;
inline constexpr uint32_t kPciRequestIrq = 4;
inline constexpr uint32_t kPciIrqCount = 5;

// Whom a device asks for another thread.
class WorkCaller {
 public:
  virtual ~WorkCaller() = default;
  // There is work that no thread has begun, and perhaps nobody else who says
  // so: have RunWork called. Must not block. From any thread.
  virtual void CallThread() = 0;
};

// A device as whoever carries the VMM's accesses sees it, whatever its bus and
// whatever the protocol: regions, interrupts, a reset. It gets an IrqSink and a
// Dma (dma.h) when it is made.
//
// Each access is one transaction: registers, internal state, interrupts and
// work that it orders become true together or not at all. The order of a
// carrier: Read or Write; answer; then RunWork while work_pending.
//
// Threads: Read, Write, Reset, OnUnmask and Resume on one thread at a time;
// RunWork on at most work_threads() at a time, perhaps beside them. The rest
// from any thread.
//
// Errors, of all calls: ABORTED, a successor owns the state: stop at once, no
// answer. DATA_LOSS: the state is damaged, the device must not go on.
// UNAVAILABLE only where it is named. All others are the guest's mistake:
// nothing happened; answer a read with ones and forget a write.
class RegionDevice {
 public:
  virtual ~RegionDevice() = default;

  // Whether the kPci… names above apply.
  virtual bool is_pci() const = 0;
  // By index. Constant.
  virtual absl::Span<const RegionInfo> regions() const = 0;
  virtual absl::Span<const IrqInfo> irqs() const = 0;

  // The memory behind the windows of a region, from offset 0 of the region on;
  // stays open for the device's life. Invalid: none.
  virtual BorrowedFd RegionMemory(uint32_t region) const = 0;

  // Accesses region bytes [offset, offset + size) in the order of the calls.
  // OUT_OF_RANGE: no such bytes. INVALID_ARGUMENT: more than the device takes
  // at once (registers: 64 bytes). After an error `out` is undefined.
  virtual absl::Status Read(AccessId id, uint32_t region, uint64_t offset,
                            absl::Span<uint8_t> out) = 0;
  virtual absl::Status Write(AccessId id, uint32_t region, uint64_t offset,
                             absl::Span<const uint8_t> bytes) = 0;

  // Back to the state of a new device. Idempotent. UNAVAILABLE: work is being
  // done; no new work begins, call again when RunWork has returned.
  virtual absl::Status Reset() = 0;

  // The VMM lets a level interrupt through again.
  virtual void OnUnmask(uint32_t irq, uint32_t vector) = 0;

  // Once, before the first access, when the IrqSink works: a predecessor may
  // have died between an access and its interrupt, which is then signalled
  // again. Nothing happens on a new segment.
  virtual absl::Status Resume() = 0;

  // On the thread of Read, once it may be called: somebody says that a resource
  // of the device has changed outside; perhaps again. Work may be pending
  // afterwards. What fails is done by the successor's start.
  virtual absl::Status ResourceChanged() { return absl::OkStatus(); }

  // On how many threads RunWork may be called at a time. Constant.
  virtual uint32_t work_threads() const { return 1; }
  // Once, before the first access: whom to call while work is done.
  virtual void SetWorkCaller(WorkCaller* caller) { (void)caller; }
  // Whether accesses or work have ordered work (a transfer) that no thread has
  // begun. Ask again after each RunWork: what was ordered while it ran, for a
  // thread that was busy, is pending now. A thread that is still awake when
  // more is pending than it can do itself calls another one in.
  virtual bool work_pending() const = 0;
  // Does a piece of it. Not before the access that ordered it is answered: work
  // may wait for the VMM, which may wait for that answer. May have been done
  // before, by a predecessor that died before it could say so.
  virtual absl::Status RunWork() = 0;
  // The calling thread has crashed inside RunWork, and this is its signal's
  // handler: stores, and nothing else.
  virtual void OnWorkCrash() {}
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_REGION_DEVICE_H_
