#include "devices/pci_nvme/events.h"

#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

TEST(Events, AreReportedOneByOne) {
  EXPECT_EQ(NextEvent(0), 0u);
  uint32_t events = kInvalidDoorbellRegister | kInvalidDoorbellValue;
  EXPECT_EQ(NextEvent(events), kInvalidDoorbellRegister);
  events = AfterReport(events, kInvalidDoorbellRegister);
  EXPECT_EQ(NextEvent(events), 0u) << "not before the log page is read";
  EXPECT_EQ(NextEvent(AfterLogPage(events, 0x02)), 0u);
  events = AfterLogPage(events, 0x01);
  EXPECT_EQ(NextEvent(events), kInvalidDoorbellValue);
  events = AfterLogPage(AfterReport(events, kInvalidDoorbellValue), 0x01);
  EXPECT_EQ(events, 0u);
}

TEST(Events, AreSaidAsTheSpecificationSays) {
  EXPECT_EQ(EventResult(kInvalidDoorbellRegister), 0x010000u);
  EXPECT_EQ(EventResult(kInvalidDoorbellValue), 0x010100u);
  EXPECT_EQ(EventResult(kTransientError), 0x010400u);
}

}  // namespace
}  // namespace holdfast::nvme
