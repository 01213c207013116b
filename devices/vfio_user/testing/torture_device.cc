#include "devices/vfio_user/testing/torture_device.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace holdfast::vfio_user {

TortureDevice::TortureDevice(Memory& memory, BorrowedFd window, Fault fault)
    : memory_(memory),
      window_(window),
      fault_(fault),
      regions_(kPciRegionCount),
      irqs_(kPciIrqCount) {
  regions_[0] = {4096, true, true, {}};
  if (window.get() >= 0) {
    regions_[2] = {8192, true, true, {{0, 4096}, {4096, 4096}}};
  }
  regions_[kPciRomRegion] = {4096, true, false, {}};
  regions_[kPciConfigRegion] = {256, true, true, {}};
  irqs_[kPciIntxIrq] = {1, true};
  irqs_[kPciMsixIrq] = {4, false};
  irqs_[kPciErrorIrq] = {1, false};
}

bool TortureDevice::Seen(AccessId id) {
  const uint64_t name = static_cast<uint64_t>(id);
  if (name < bank().last_access) ++misnamed;
  return fault_ == Fault::kNone && name == bank().last_access;
}

TortureDevice::Bank TortureDevice::Begin(AccessId id) const {
  Bank next = bank();
  next.last_access = static_cast<uint64_t>(id);
  return next;
}

void TortureDevice::Commit(const Bank& next) {
  ++done;
  const uint64_t other = (memory_.current & 1) ^ 1;
  memory_.banks[other] = next;
  __atomic_store_n(&memory_.current, other, __ATOMIC_RELEASE);
}

absl::Status TortureDevice::Read(AccessId id, uint32_t region, uint64_t offset,
                                 absl::Span<uint8_t> out) {
  if (!access_status.ok()) return access_status;
  if (out.size() > sizeof(Bank::last_answer)) {
    return absl::InvalidArgumentError("more than 64 bytes at once");
  }
  if (!Seen(id)) {
    Bank next = Begin(id);
    std::memset(next.last_answer, 0, sizeof(next.last_answer));
    uint64_t value = 0;
    if (region == kPciConfigRegion) {
      for (size_t i = 0; i < out.size(); ++i) {
        next.last_answer[i] = static_cast<uint8_t>(offset + i);
      }
    } else if (region == 0 && offset >= 64 && offset < 128) {
      const size_t size = std::min<size_t>(out.size(), 128 - offset);
      std::memcpy(next.last_answer, next.scratch + (offset - 64), size);
    } else if (region == 0) {
      if (offset == 0) value = ++next.reads;
      if (offset == 8) value = next.accumulator;
      if (offset == 16) value = next.writes;
      std::memcpy(next.last_answer, &value, sizeof(value));
    }
    Commit(next);
  }
  std::memcpy(out.data(), bank().last_answer, out.size());
  return absl::OkStatus();
}

absl::Status TortureDevice::Write(AccessId id, uint32_t region, uint64_t offset,
                                  absl::Span<const uint8_t> bytes) {
  if (!access_status.ok()) return access_status;
  if (bytes.size() > sizeof(Bank::scratch)) {
    return absl::InvalidArgumentError("more than 64 bytes at once");
  }
  if (Seen(id)) return absl::OkStatus();
  Bank next = Begin(id);
  if (region == 0 && offset == 8) {
    uint64_t value = 0;
    std::memcpy(&value, bytes.data(), std::min<size_t>(bytes.size(), 8));
    next.accumulator = 31 * next.accumulator + value;
    ++next.writes;
  } else if (region == 0 && offset >= 64 && offset < 128) {
    const size_t size = std::min<size_t>(bytes.size(), 128 - offset);
    std::memcpy(next.scratch + (offset - 64), bytes.data(), size);
  }
  Commit(next);
  return absl::OkStatus();
}

absl::Status TortureDevice::Reset() {
  Bank next = bank();
  std::memset(next.scratch, 0, sizeof(next.scratch));
  next.resets = 1;
  Commit(next);
  return absl::OkStatus();
}

void TortureDevice::OnUnmask(uint32_t irq, uint32_t vector) {
  unmasked.push_back(absl::StrCat(irq, "/", vector));
}

}  // namespace holdfast::vfio_user
