// What the macros of tools/bazel/device.bzl make of a device: each rule is a
// test.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

// The macro says which rules there are, where the device is declared, and what
// it is: a PciClass or a PlatformClass.
#include HOLDFAST_CONFORMANCE_HEADER
#include HOLDFAST_DEVICE_HEADER

namespace holdfast::testing {
namespace {

auto Device() { return HOLDFAST_DEVICE_CLASS; }
using DeviceRule = Rule<decltype(Device())>;

class Conformance : public ::testing::TestWithParam<DeviceRule> {};

TEST_P(Conformance, Holds) {
  EXPECT_THAT(GetParam().check(Device()), ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Rule, Conformance,
                         ::testing::ValuesIn(RulesOf(Device())),
                         [](const ::testing::TestParamInfo<DeviceRule>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace holdfast::testing
