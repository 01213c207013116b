// What holdfast_pci_device_tests() makes of a device: each rule is a test.
#include <string>

#include "devices/bus/testing/pci_conformance.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

// The macro says where the device is declared, and what it is: a PciClass.
#include HOLDFAST_DEVICE_HEADER

namespace holdfast::testing {
namespace {

class PciConformance : public ::testing::TestWithParam<PciRule> {};

TEST_P(PciConformance, Holds) {
  EXPECT_THAT(GetParam().check(HOLDFAST_DEVICE_CLASS), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Rule, PciConformance, ::testing::ValuesIn(PciRules()),
                         [](const ::testing::TestParamInfo<PciRule>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace holdfast::testing
