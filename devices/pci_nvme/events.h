#ifndef HOLDFAST_DEVICES_PCI_NVME_EVENTS_H_
#define HOLDFAST_DEVICES_PCI_NVME_EVENTS_H_

#include <array>
#include <cstdint>

#include "devices/pci_nvme/protocol.h"

// Asynchronous events (section 5.2), as bits of one word: what has happened and
// was not reported, and which kinds are not reported until the guest has read
// the log page of the last one.
namespace holdfast::nvme {

inline constexpr uint32_t kInvalidDoorbellRegister = 1u << 0;
inline constexpr uint32_t kInvalidDoorbellValue = 1u << 1;
inline constexpr uint32_t kTransientError = 1u << 2;
inline constexpr uint32_t kTemperatureEvent = 1u << 3;
inline constexpr uint32_t kNamespaceChanged = 1u << 4;

struct EventKind {
  uint32_t event;
  uint8_t type;  // Of the events of one type one is reported at a time.
  uint8_t information;
  LogPage page;

  constexpr uint32_t reported() const { return 1u << (16 + type); }
};

// In the order in which they are reported.
inline constexpr std::array<EventKind, 5> kEventKinds = {{
    {kInvalidDoorbellRegister, 0, 0, LogPage::kErrors},
    {kInvalidDoorbellValue, 0, 1, LogPage::kErrors},
    {kTransientError, 0, 4, LogPage::kErrors},
    {kTemperatureEvent, 1, 1, LogPage::kSmart},
    {kNamespaceChanged, 2, 0, LogPage::kChangedNamespaces},
}};

// Of Asynchronous Event Configuration (figure 291): which ones it asks for.
// The others come always.
constexpr bool IsAskedFor(uint32_t event, uint32_t configuration) {
  if (event == kTemperatureEvent) return (configuration & 1u << 1) != 0;
  if (event == kNamespaceChanged) return (configuration & 1u << 8) != 0;
  return true;
}

// One of `events` that is to be reported now; 0: none.
constexpr uint32_t NextEvent(uint32_t events) {
  for (const EventKind& kind : kEventKinds) {
    if ((events & kind.event) != 0 && (events & kind.reported()) == 0) {
      return kind.event;
    }
  }
  return 0;
}

constexpr EventKind KindOf(uint32_t event) {
  for (const EventKind& kind : kEventKinds) {
    if (kind.event == event) return kind;
  }
  return kEventKinds[0];
}

// What the completion of an Asynchronous Event Request says of it: type,
// information, log page.
constexpr uint32_t EventResult(uint32_t event) {
  const EventKind kind = KindOf(event);
  return static_cast<uint32_t>(kind.page) << 16 |
         uint32_t{kind.information} << 8 | kind.type;
}

// `events` after one was reported, and after log page `page` was read.
constexpr uint32_t AfterReport(uint32_t events, uint32_t event) {
  return (events & ~event) | KindOf(event).reported();
}
constexpr uint32_t AfterLogPage(uint32_t events, uint8_t page) {
  for (const EventKind& kind : kEventKinds) {
    if (static_cast<uint8_t>(kind.page) == page) events &= ~kind.reported();
  }
  // What has changed meanwhile is in the list that was read.
  if (page == static_cast<uint8_t>(LogPage::kChangedNamespaces)) {
    events &= ~kNamespaceChanged;
  }
  return events;
}

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_EVENTS_H_
