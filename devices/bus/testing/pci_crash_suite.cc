// What holdfast_pci_device_tests() makes of a device: each plan is a test.
#include <string>

#include "devices/bus/testing/pci_conformance.h"
#include "devices/bus/testing/pci_crash.h"
#include "gtest/gtest.h"

// The macro says where the device is declared, and what it is: a PciClass.
#include HOLDFAST_DEVICE_HEADER

namespace holdfast::testing {
namespace {

class PciCrashes : public ::testing::TestWithParam<NamedCrashPlan> {};

TEST_P(PciCrashes, AreInvisible) {
  ExpectSurvives(HOLDFAST_DEVICE_CLASS, GetParam().plan, /*least=*/2);
}

INSTANTIATE_TEST_SUITE_P(
    Of, PciCrashes, ::testing::ValuesIn(PciCrashPlans(HOLDFAST_DEVICE_CLASS)),
    [](const ::testing::TestParamInfo<NamedCrashPlan>& info) {
      return info.param.name;
    });

}  // namespace
}  // namespace holdfast::testing
