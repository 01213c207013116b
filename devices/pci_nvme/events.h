#ifndef HOLDFAST_DEVICES_PCI_NVME_EVENTS_H_
#define HOLDFAST_DEVICES_PCI_NVME_EVENTS_H_

#include <cstdint>
#include <initializer_list>

// Asynchronous events (section 5.2), as bits of one word: what has happened and
// was not reported, and which kinds are not reported until the guest has read
// the log page of the last one.
namespace holdfast::nvme {

inline constexpr uint32_t kInvalidDoorbellRegister = 1u << 0;
inline constexpr uint32_t kInvalidDoorbellValue = 1u << 1;
inline constexpr uint32_t kTransientError = 1u << 2;
inline constexpr uint32_t kErrorsReported = 1u << 16;

// One of `events` that is to be reported now; 0: none.
constexpr uint32_t NextEvent(uint32_t events) {
  if ((events & kErrorsReported) != 0) return 0;
  for (const uint32_t event :
       {kInvalidDoorbellRegister, kInvalidDoorbellValue, kTransientError}) {
    if ((events & event) != 0) return event;
  }
  return 0;
}

// What the completion of an Asynchronous Event Request says of it: type,
// information, log page.
constexpr uint32_t EventResult(uint32_t event) {
  const uint32_t information = event == kTransientError         ? 4
                               : event == kInvalidDoorbellValue ? 1
                                                                : 0;
  return 0x01u << 16 | information << 8;
}

// `events` after one was reported, and after log page `page` was read.
constexpr uint32_t AfterReport(uint32_t events, uint32_t event) {
  return (events & ~event) | kErrorsReported;
}
constexpr uint32_t AfterLogPage(uint32_t events, uint8_t page) {
  return page == 0x01 ? events & ~kErrorsReported : events;
}

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_EVENTS_H_
