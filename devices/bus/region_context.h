#ifndef HOLDFAST_DEVICES_BUS_REGION_CONTEXT_H_
#define HOLDFAST_DEVICES_BUS_REGION_CONTEXT_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "devices/bus/device_context.h"
#include "devices/bus/dma.h"

namespace holdfast {

// What a device that has registers may use, on whatever bus. Lives as long as
// the device. Thread-safe.
class RegionContext : public DeviceContext {
 public:
  // The guest's memory, while the guest lets the device reach it. For OnWork
  // only: a register access must not wait for it.
  virtual Dma& dma() = 0;

  // The bytes of an area that the spec declared, at a multiple of 64; empty for
  // any other name, and before the first access or work: the constructor runs
  // in a process that does not own them yet. They outlive a crash with every
  // store that was made before it and none that was not (base/shared_access.h
  // keeps the order). Nothing checks them and no transaction covers them:
  // believe what is in there as little as what a guest writes.
  virtual absl::Span<uint8_t> Area(absl::string_view name) const = 0;

  // Has OnWork called for one of `works`, a bit each, that nobody does yet; or
  // for all. No transaction: cheap, and forgotten with the process.
  virtual void CallIn(uint64_t works) = 0;
  virtual void CallAll(uint64_t works) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_REGION_CONTEXT_H_
