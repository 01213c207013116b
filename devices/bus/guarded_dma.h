#ifndef HOLDFAST_DEVICES_BUS_GUARDED_DMA_H_
#define HOLDFAST_DEVICES_BUS_GUARDED_DMA_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "devices/bus/dma.h"

namespace holdfast {

// Memory that a device reaches only while `may` says so: asked before each
// transfer, whose error it is. Thread-safe if `may` is.
class GuardedDma final : public Dma {
 public:
  using May = std::function<absl::Status()>;
  // `dma` outlives it.
  GuardedDma(Dma& dma, May may) : dma_(dma), may_(std::move(may)) {}

  absl::Status Read(GuestAddress address, absl::Span<uint8_t> out) override {
    RETURN_IF_ERROR(may_());
    return dma_.Read(address, out);
  }
  absl::Status Write(GuestAddress address,
                     absl::Span<const uint8_t> bytes) override {
    RETURN_IF_ERROR(may_());
    return dma_.Write(address, bytes);
  }
  absl::StatusOr<DmaMapping> Map(GuestAddress address, uint64_t size,
                                 DmaAccess access) override {
    RETURN_IF_ERROR(may_());
    return dma_.Map(address, size, access);
  }
  // What was asked for was allowed then.
  absl::Status AwaitForgotten() override { return dma_.AwaitForgotten(); }
  // What was written is written: the log of a migration must have it.
  void Written(GuestAddress address, uint64_t size) override {
    dma_.Written(address, size);
  }

 private:
  Dma& dma_;
  const May may_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_GUARDED_DMA_H_
