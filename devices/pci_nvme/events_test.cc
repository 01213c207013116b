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
  EXPECT_EQ(EventResult(kTemperatureEvent), 0x020101u);
  EXPECT_EQ(EventResult(kNamespaceChanged), 0x040002u);
}

TEST(Events, OfDifferentTypesDoNotWaitForOneAnother) {
  uint32_t events =
      kInvalidDoorbellValue | kTemperatureEvent | kNamespaceChanged;
  for (const uint32_t event :
       {kInvalidDoorbellValue, kTemperatureEvent, kNamespaceChanged}) {
    EXPECT_EQ(NextEvent(events), event);
    events = AfterReport(events, event);
  }
  events = AfterLogPage(events | kTemperatureEvent, 0x04);
  EXPECT_EQ(NextEvent(events), 0u);
  EXPECT_EQ(NextEvent(AfterLogPage(events, 0x02)), kTemperatureEvent);
}

TEST(Events, OfSomeKindsAreAskedFor) {
  EXPECT_TRUE(IsAskedFor(kInvalidDoorbellValue, 0));
  EXPECT_FALSE(IsAskedFor(kTemperatureEvent, 0x100));
  EXPECT_TRUE(IsAskedFor(kTemperatureEvent, 0x02));
  EXPECT_FALSE(IsAskedFor(kNamespaceChanged, 0xff));
  EXPECT_TRUE(IsAskedFor(kNamespaceChanged, 0x100));
}

}  // namespace
}  // namespace holdfast::nvme
